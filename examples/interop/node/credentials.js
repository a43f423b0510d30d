// The files of a directory as TLS options, and again whenever they change.
'use strict';
const fs = require('fs');
const path = require('path');
const tls = require('tls');
const { constants } = require('crypto');

/** What is in the directory now. Throws when it is not a pair of key and certificate that TLS takes. */
function read(directory) {
  const file = (name) => fs.readFileSync(path.join(directory, name));
  const options = {
    ca: file('ca.crt'),
    cert: file('tls.crt'),
    key: file('tls.key'),
    minVersion: 'TLSv1.3',
    // A resumed session is not verified again: expired and revoked callers would get back in.
    secureOptions: constants.SSL_OP_NO_TICKET,
  };
  // OpenSSL, and so Node, wants a list from every authority of a chain, the root included, as soon as it has one.
  const lists = fs.readdirSync(directory).filter((name) => name.endsWith('crl.pem'));
  if (lists.length > 0) options.crl = lists.map(file);
  tls.createSecureContext(options);
  return options;
}

/** Calls `use` with the new options each time that the files have changed and are sound; the last good ones stay. */
function watch(directory, use) {
  const content = () =>
    fs.readdirSync(directory).map((name) => fs.readFileSync(path.join(directory, name), 'latin1')).join();
  let last = content();
  setInterval(() => {
    try {
      const now = content();
      if (now === last) return;
      use(read(directory));
      last = now;
      console.log('credentials replaced');
    } catch (error) {
      console.error(`credentials kept: ${error.message}`);
    }
  }, 500);
}

module.exports = { read, watch };
