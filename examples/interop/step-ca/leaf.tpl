{{- /* What a leaf says: the names of its token, one use, and where its revocation list is, without which a list that
       names that place is not about it (RFC 5280 §5.2.5). */ -}}
{
  "subject": {{ toJson .Subject }},
  "sans": {{ toJson .SANs }},
  "keyUsage": ["digitalSignature"],
  "extKeyUsage": ["serverAuth", "clientAuth"],
  "crlDistributionPoints": ["https://localhost/1.0/crl"]
}
