// A web server in Node, with https alone: the caller's verified certificate decides what it may read.
//
// usage: node https-server.js HOST:PORT DIR      DIR has tls.crt, tls.key, ca.crt and, optionally, *crl.pem
'use strict';
const https = require('https');
const { live } = require('./credentials');
const { namesOf, allows } = require('./identity');

const [host, port] = process.argv[2].split(':');
const directory = process.argv[3];

const options = live(directory, (changed) => {
  server.setSecureContext(changed);
  // Connected callers were verified with the previous files, so they must connect again.
  server.closeAllConnections();
});
const server = https.createServer({ ...options, requestCert: true, rejectUnauthorized: true }, (request, response) => {
  const names = namesOf(request.socket.getPeerCertificate().raw);
  const { pathname } = new URL(request.url, 'https://localhost');
  if (!allows(names, pathname)) {
    console.log(`denied ${pathname} to ${JSON.stringify(names)}`);
    return response.writeHead(403).end('not allowed\n');
  }
  response.write(`FAS-M6-20 480, for ${JSON.stringify(names)}\n`);
  if (pathname !== '/watch') response.end();
});
server.on('tlsClientError', (error) => console.log(`refused a connection: ${error.code} ${error.message}`));
server.listen(port, host, () => console.log('listening'));
