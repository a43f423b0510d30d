// The inventory in Node, with grpc-js: the caller's verified certificate decides, before a handler runs, what it may call.
//
// usage: node grpc-server.js HOST:PORT DIR      DIR has tls.crt, tls.key, ca.crt and, optionally, *crl.pem
'use strict';
const grpc = require('@grpc/grpc-js');
const { InventoryService } = require('./contract');
const { live } = require('./credentials');
const { namesOf, allows } = require('./identity');

const [address, directory] = process.argv.slice(2);

/** ServerCredentials.createSsl takes no revocation list, and never changes. */
class LiveCredentials extends grpc.ServerCredentials {
  constructor(options) {
    super({ requestCert: true, rejectUnauthorized: true }, options);
  }
  replace(options) {
    this.updateSecureContextOptions(options);
  }
  _equals(other) {
    return this === other;
  }
}

/** Around every method: deny is what happens when nobody allowed. */
function authorize(method, call) {
  const names = namesOf(call.getAuthContext().sslPeerCertificate.raw);
  if (allows(names, method.path)) return new grpc.ServerInterceptingCall(call);
  console.log(`denied ${method.path} to ${JSON.stringify(names)}`);
  return new grpc.ServerInterceptingCall(call, {
    start: () => call.sendStatus({ code: grpc.status.PERMISSION_DENIED, details: 'not allowed', metadata: null }),
  });
}

const level = { sku: 'FAS-M6-20', name: 'Hex bolt, from Node', quantity: 480, available: 480 };
const server = new grpc.Server({ interceptors: [authorize] });
server.addService(InventoryService.service, {
  GetItem: (call, answer) => answer(null, { item: level }),
  WatchStock: (call) => call.write({ kind: 'UPDATE_KIND_CURRENT', item: level }),
});
const credentials = new LiveCredentials(
  live(directory, (options) => {
    credentials.replace(options);
    // Connected callers were verified with the previous files, so they must connect again.
    server.drain(address, 0);
  }),
);
server.bindAsync(address, credentials, (error) => {
  if (error) throw error;
  console.log('listening');
});
