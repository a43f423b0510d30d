// The contract of the inventory, read from its proto.
'use strict';
const path = require('path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const definition = loader.loadSync('inventory/v1/inventory.proto', {
  includeDirs: [path.join(__dirname, '../../../proto')],
  keepCase: true,
  enums: String,
});
module.exports = grpc.loadPackageDefinition(definition).inventory.v1;
