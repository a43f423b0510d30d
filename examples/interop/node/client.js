// A client of the inventory over mutual TLS, with grpc-js.
//
// usage: node client.js HOST:PORT DIR get|watch      DIR has tls.crt, tls.key and ca.crt
'use strict';
const fs = require('fs');
const path = require('path');
const grpc = require('@grpc/grpc-js');
const { InventoryService } = require('./contract');

const [address, directory, command] = process.argv.slice(2);

/** With the credentials that are in the directory now. A client keeps them: make a new one for new ones. */
function connect() {
  const file = (name) => (fs.existsSync(path.join(directory, name)) ? fs.readFileSync(path.join(directory, name)) : null);
  // The server's certificate is checked against ca.crt, and for the host name of the address.
  const credentials = grpc.credentials.createSsl(file('ca.crt'), file('tls.key'), file('tls.crt'));
  return new InventoryService(address, credentials);
}

/** The code, and the reason: an identifier to decide on, where the text may change. */
function explain(error) {
  const [status] = error.metadata?.get('grpc-status-details-bin') ?? [];
  // google.rpc.Status: its details are Any, and the reason is field 1 of google.rpc.ErrorInfo.
  const reason = status?.toString('latin1').match(/google\.rpc\.ErrorInfo\x12.\x0a.([A-Z_]+)/s)?.[1];
  return [grpc.status[error.code], reason, error.details].filter(Boolean).join(' ').replaceAll('\n', ' ');
}

function watch() {
  let client;
  try {
    client = connect();
  } catch (error) {
    console.log(`credentials that are being replaced: ${error.message}`);
    return setTimeout(watch, 1000);
  }
  const levels = client.WatchStock({ sku: 'FAS-M6-20' });
  levels.on('data', ({ item }) => console.log(item.sku, item.available));
  levels.on('end', () => {});
  levels.on('error', (error) => {
    console.log('ended:', explain(error));
    client.close();
    setTimeout(watch, 1000);
  });
}

if (command === 'watch') {
  watch();
} else {
  const client = connect();
  client.GetItem({ sku: 'FAS-M6-20' }, { deadline: Date.now() + 5000 }, (error, answer) => {
    client.close();
    if (!error) return console.log(answer.item.name, answer.item.available);
    console.error(explain(error));
    process.exitCode = 1;
  });
}
