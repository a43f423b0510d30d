# Functions that nginx/run and ingress-nginx/run share.

# The revocation lists in one file, as nginx reads them.
lists() { cat certs/inventory/crl.pem certs/inventory/root-crl.pem >nginx-crl.pem; }

ours() { # PORT WHO COMMAND…
  local port=$1 who=$2
  shift 2
  client --target "https://localhost:$port" --tls-dir "$who" --deadline 5s "$@" >got.log 2>&1
}

by_curl() { # ADDRESS [OPTION…]
  local address=$1
  shift
  printf '\0\0\0\0\013\012\011FAS-M6-20' >get-item.bin
  curl -sS --max-time 10 --http2 -H 'content-type: application/grpc' -H 'te: trailers' --data-binary @get-item.bin -o answer.bin \
    -D - --cacert certs/gateway/ca.crt "$@" "https://$address/inventory.v1.InventoryService/GetItem" >got.log 2>&1 &&
    grep -a -q '^grpc-status: 0' got.log
}

# Prints what nginx logs about the next request.
look() { seen=$(wc -l <nginx-access.log); }
of_nginx() { until_line nginx-access.log '^[0-9]' "$seen" | sed 's/, upstream.*//'; }
