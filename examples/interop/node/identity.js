// The identity in a verified certificate, and what that identity may do.
'use strict';
const { X509Certificate } = require('crypto');

/** By name: the methods or paths that are allowed. Names are compared whole, never in part. */
const policy = {
  'URI:spiffe://acme.test/orders': ['/inventory.v1.InventoryService/GetItem', '/inventory.v1.InventoryService/WatchStock', '/item', '/watch'],
  'DNS:billing.acme.test': ['/inventory.v1.InventoryService/GetItem', '/item'],
  // A subject as Node prints it: one attribute a line, in the order of the certificate.
  'C=US\nO=Acme\nOU=batch\nCN=mainframe': ['/inventory.v1.InventoryService/GetItem', '/item'],
};

/** The names of a certificate: its URIs if it has any, else its DNS names, else its subject. */
function namesOf(der) {
  const certificate = new X509Certificate(der);
  const names = subjectAltNames(certificate.subjectAltName ?? '');
  for (const kind of ['URI:', 'DNS:']) {
    const ofKind = names.filter((name) => name.startsWith(kind));
    if (ofKind.length > 0) return ofKind;
  }
  return [certificate.subject ?? ''];
}

/** Node joins the names with ", ", and writes one that holds such text itself as a JSON string. */
function subjectAltNames(text) {
  const names = [];
  const name = /([A-Za-z0-9 ]+:)("(?:[^"\\]|\\.)*"|[^",]*)(?:, |$)/y;
  while (name.lastIndex < text.length) {
    const match = name.exec(text);
    if (!match) throw new Error(`names that cannot be read: ${text}`);
    names.push(match[1] + (match[2].startsWith('"') ? JSON.parse(match[2]) : match[2]));
  }
  return names;
}

function allows(names, method) {
  return names.some((name) => Object.hasOwn(policy, name) && policy[name].includes(method));
}

module.exports = { namesOf, allows };
