# Functions that the `run` scripts share. scripts/interop gives each one its own directory with certs/ (NAME/{tls.crt,
# tls.key,ca.crt}), other/ (the same names from another CA) and stranger/ (a certificate of that other CA with our roots),
# and our server at $SERVER, which has the items of crates/client/data/items.csv.
set -euo pipefail

# Prints one line of the table. RESULT is served or refused; WHO is, for example, "our server: CODE".
report() { # DIRECTION CASE RESULT [WHO AND WHY]
  printf '%s | %s | %s | %s | %s\n' "$SYSTEM" "$1" "$2" "$3" "${4:-}"
}

# Skips all cases of the system, with the arguments as the reason.
skip() {
  echo "$*" >&2
  exit 77
}

# Gets something from a registry. If that fails, the system is skipped.
get() { # COMMAND…
  "$@" >>get.log 2>&1 || { tail -n 20 get.log >&2; skip "no answer of a registry to: $*"; }
}

# Builds $BUILD with Maven. Without its registry, the system is skipped; a compile error is a failure.
maven() {
  mvn -B -q -f "$BUILD/pom.xml" -DskipTests package >maven.log 2>&1 && return
  tail -n 40 maven.log >&2
  ! grep -q 'Could not transfer\|Could not resolve\|Unable to resolve artifact\|Non-resolvable' maven.log ||
    skip "Maven cannot get all that it needs from its registry"
  return 1
}

free_port() {
  local port
  while :; do
    port=$((10000 + RANDOM % 20000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
  done
}

# Waits until something listens on the port.
until_open() { # PORT [SECONDS]
  for _ in $(seq $((${2:-30} * 10))); do
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return
    sleep 0.1
  done
  echo "nothing listens on port $1" >&2
  return 1
}

# Waits until FILE has a line with PATTERN below line FROM, and prints it.
until_line() { # FILE PATTERN [FROM [SECONDS]]
  for _ in $(seq $((${4:-15} * 10))); do
    tail -n "+$((${3:-0} + 1))" "$1" | grep -a -m 1 -e "$2" && return
    sleep 0.1
  done
  echo "no line with $2 in $1" >&2
  return 1
}

# Remembers the end of our server's log; later refusals are below it.
mark() { server_mark=$(wc -l <"$SERVER_LOG"); }

# Prints why our server refused something since `mark`: the code of the connection or the reason of the call.
server_refusal() { # PATTERN
  until_line "$SERVER_LOG" "\"\(code\|reason\)\":\"$1\"" "$server_mark" | grep -o -m 1 -e "$1" | head -n 1
}

revoke() { # NAME
  case $PKI in
  countersign) countersign pki revoke "$1" ;;
  openssl) "$REPOSITORY/scripts/certs-openssl" certs --revoke "$1" ;;
  esac >>pki.log 2>&1
}

# Issues another certificate and key for NAME, in addition to the current one.
rotate() { # NAME
  case $PKI in
  countersign) countersign pki renew "$1" ;;
  openssl) reissue "$1" ;;
  esac >>pki.log 2>&1
}

# scripts/certs-openssl keeps a valid certificate, so this runs it in an empty directory and moves the result.
reissue() { # NAME
  cp -R certs next
  rm "next/$1/tls.crt"
  "$REPOSITORY/scripts/certs-openssl" next
  mv "next/$1/tls.key" "next/$1/tls.crt" "certs/$1"
  rm -r next
}

# Writes a revocation list of each CA to certs/inventory. OpenSSL needs all of them as soon as it has one: without the list of
# the root, Node, nginx and others refuse every caller. Our server uses the lists that it has.
lists_of_all() {
  [ -e certs/inventory/crl.pem ] || countersign pki crl >>pki.log
  printf '%s\n' '[ca]' default_ca=root '[root]' certificate=certs/ca/root.crt private_key=certs/ca/root.key \
    database=root.index crlnumber=root.number default_md=sha256 default_crl_days=30 crl_extensions=list \
    '[list]' authorityKeyIdentifier=keyid:always >root.cnf
  : >root.index
  echo 01 >root.number
  openssl ca -config root.cnf -gencrl -out certs/inventory/root-crl.pem 2>>pki.log
}

# Prints the alert that ends a handshake with these openssl arguments, if there is one.
alert() { # PORT ARGUMENT…
  local port=$1
  shift
  (sleep 1) | openssl s_client -connect "127.0.0.1:$port" -servername localhost -verify_hostname localhost \
    -verify_return_error -CAfile certs/orders/ca.crt "$@" 2>&1 | grep -a -o -m 1 'alert number [0-9]*' || echo "no alert"
}

# Prints the serial number of the certificate that a server presents.
serial() { # PORT ARGUMENT…
  local port=$1
  shift
  openssl s_client -connect "127.0.0.1:$port" -CAfile certs/orders/ca.crt "$@" 2>/dev/null </dev/null | openssl x509 -noout -serial
}

as() { echo "--cacert certs/orders/ca.crt --cert $1/tls.crt --key $1/tls.key"; } # DIR: options of curl

# Replaces the revoked certificate of NAME, as an operator would.
replace() { # NAME
  case $PKI in
  countersign) countersign pki issue "$1" --replace ;;
  openssl) reissue "$1" ;;
  esac >>pki.log 2>&1
}

# Prints the code at the beginning of the last line, with the identifiers in capitals after it.
codes() { tail -n 1 | sed -E 's/^([A-Za-z_]+( [A-Z][A-Z_]+)*)( .*)?$/\1/'; }

# Runs the cases of a client of our server. CLIENT ADDRESS DIR get: prints the item, with exit code 0, or CODE REASON.
# CLIENT ADDRESS DIR watch: prints each level; when the stream ends, "ended: CODE REASON", and watches again with what is
# in DIR then. A DIR without tls.crt stands for a client without a certificate.
# Our server names the CAs that it trusts, so some clients send no certificate of another CA; the file `cases` says which.
# WORDS are in the client's own error about a server of an unknown CA.
try_client() { # DIRECTION WORDS COMMAND…
  local direction=$1 words=$2 reason name expected pid
  shift 2
  name=${direction%% ->*}
  if "$@" "$SERVER" certs/orders get >got.log 2>&1 && grep -q 'Hex bolt M6 x 20' got.log; then
    report "$direction" allowed served
  fi
  mkdir -p none
  cp certs/orders/ca.crt none
  while IFS='|' read -r reason directory expected; do
    mark
    if "$@" "$SERVER" "$directory" get >got.log 2>&1; then
      report "$direction" "$reason" served
    else
      cat got.log >&2
      report "$direction" "$reason" refused "our server: $(server_refusal "$expected") ($name: $(codes <got.log))"
    fi
  done <<'CASES'
denied by the policy|certs/marketing|POLICY_DENIED
no certificate|none|CERTIFICATE_MISSING
another CA|stranger|UNKNOWN_ISSUER\|CERTIFICATE_MISSING
CASES
  # A client that trusts only the other CA refuses, and our server gets its alert.
  mark
  if "$@" "$SERVER" other/orders get >got.log 2>&1; then
    report "$direction" "server of another CA" served
  else
    cat got.log >&2
    reason=$(grep -a -o -m 1 -e "$words" got.log | head -n 1)
    # Each client closes the connection in its own way.
    expected=$(server_refusal 'REFUSED_BY_PEER\|HANDSHAKE_CLOSED\|HANDSHAKE_FAILED')
    report "$direction" "server of another CA" refused "$name: $reason (our server: $expected)"
  fi
  "$@" "$SERVER" certs/orders watch >watch.log 2>&1 &
  pid=$!
  until_line watch.log 'FAS-M6-20 480' 0 60 >/dev/null
  mark
  revoke orders
  until_line watch.log '^ended: ' >ended.log
  report "$direction" "revoked while connected" refused "our server: $(server_refusal CERTIFICATE_REVOKED) ($name: $(sed 's/^ended: //' ended.log | codes))"
  # The same process, without a restart.
  local before
  before=$(wc -l <watch.log)
  replace orders
  until_line watch.log 'FAS-M6-20 480' "$before" 30 >/dev/null
  report "$direction" "new certificate while it runs" served
  kill "$pid"
}

# Starts our server with another policy, in place of the running one.
start_server() { # POLICY [OPTION…]
  local policy=$1
  shift
  server --listen 127.0.0.1:0 --admin-listen off --data own.redb --tls-dir certs/inventory --policy "$policy" "$@" \
    >own-audit.log 2>own.log &
  until_line own.log '"listening"' >/dev/null
  SERVER=localhost:$(sed -n 's/.*"listening","address":"127.0.0.1:\([0-9]*\)".*/\1/p' own.log)
  SERVER_LOG=$PWD/own.log
  client --target "https://$SERVER" --tls-dir certs/catalog import "$REPOSITORY/crates/client/data/items.csv" >>import.log
}

# Issues a certificate of our CA for NAME.
issue() { # NAME OPTION…
  countersign pki issue "$@" >>pki.log 2>&1
}

# Copies the credentials of NAME without a revocation list to listless/, so that only the other system checks one.
without_list() { # NAME
  rm -rf listless
  mkdir listless
  cp "certs/$1"/{tls.crt,tls.key,ca.crt} listless
}

# Starts a watch of our client at PORT as WHO, and returns when the first level arrives.
watch_as() { # PORT WHO
  client --target "https://localhost:$1" --tls-dir "$2" watch >watch.log 2>&1 &
  watching=$!
  until_line watch.log FAS-M6-20 0 >/dev/null
}

# Waits until that client has ended.
until_ended() {
  for _ in $(seq 150); do
    kill -0 "$watching" 2>/dev/null || return 0
    sleep 0.1
  done
  echo "the watcher is still served" >&2
  return 1
}
