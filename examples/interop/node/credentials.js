// The files of a directory as TLS options, reloaded when they change.
'use strict';
const fs = require('fs');
const path = require('path');
const tls = require('tls');
const { constants } = require('crypto');

/** What is in the directory now, file by file. */
function read(directory) {
  const names = fs.readdirSync(directory).filter((name) => /^(ca\.crt|tls\.crt|tls\.key|.*crl\.pem)$/.test(name)).sort();
  return new Map(names.map((name) => [name, fs.readFileSync(path.join(directory, name))]));
}

/** Throws when it is not a pair of key and certificate, with roots, that TLS takes. */
function optionsOf(files) {
  for (const name of ['ca.crt', 'tls.crt', 'tls.key']) {
    if (!files.has(name)) throw new Error(`no ${name}`);
  }
  const options = {
    ca: files.get('ca.crt'),
    cert: files.get('tls.crt'),
    key: files.get('tls.key'),
    minVersion: 'TLSv1.3',
    // A resumed session is not verified again, so expired and revoked callers would be accepted.
    secureOptions: constants.SSL_OP_NO_TICKET,
  };
  // OpenSSL, and so Node, needs a list from every CA of a chain, including the root, as soon as it has one.
  const lists = [...files.keys()].filter((name) => name.endsWith('crl.pem'));
  if (lists.length > 0) options.crl = lists.map((name) => files.get(name));
  tls.createSecureContext(options);
  return options;
}

/** The options now. `replace` gets them each time that the files have changed and are sound; the last good ones stay. */
function live(directory, replace) {
  let last = read(directory);
  const same = (now) => now.size === last.size && [...now].every(([name, content]) => last.get(name)?.equals(content));
  setInterval(() => {
    try {
      const now = read(directory);
      if (same(now)) return;
      for (const name of last.keys()) {
        if (!now.has(name)) throw new Error(`${name} is gone`); // a missing list would revoke no one
      }
      replace(optionsOf(now));
      last = now;
      console.log('credentials replaced');
    } catch (error) {
      console.error(`credentials kept: ${error.message}`);
    }
  }, 500);
  return optionsOf(last);
}

module.exports = { live };
