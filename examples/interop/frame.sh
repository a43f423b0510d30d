# What the `run` of each system shares. scripts/interop gives it a directory of its own with certs/ (NAME/{tls.crt,tls.key,
# ca.crt}), other/ (the same names by another authority), stranger/ (a certificate of that other authority, with the roots
# of ours), and a server of ours at $SERVER, which has the items of crates/client/data/items.csv.
set -euo pipefail

# One line of the table. RESULT is served or refused; WHO is "our server: CODE", and the like.
report() { # DIRECTION CASE RESULT [WHO AND WHY]
  printf '%s | %s | %s | %s | %s\n' "$SYSTEM" "$1" "$2" "$3" "${4:-}"
}

# Something is not to be had here. All cases of the system are skipped, with this as the reason.
skip() {
  echo "$*" >&2
  exit 77
}

# Gets something from a registry. Without one, the system is skipped.
get() { # COMMAND…
  "$@" >>get.log 2>&1 || { tail -n 20 get.log >&2; skip "no answer of a registry to: $*"; }
}

# Builds what is in $BUILD with Maven. Without its registry, the system is skipped; what does not compile is a failure.
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

# Until something listens there.
until_open() { # PORT [SECONDS]
  for _ in $(seq $((${2:-30} * 10))); do
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return
    sleep 0.1
  done
  echo "nothing listens on port $1" >&2
  return 1
}

# Until FILE has a line with PATTERN below line FROM, which is printed.
until_line() { # FILE PATTERN [FROM [SECONDS]]
  for _ in $(seq $((${4:-15} * 10))); do
    tail -n "+$((${3:-0} + 1))" "$1" | grep -a -m 1 -e "$2" && return
    sleep 0.1
  done
  echo "no line with $2 in $1" >&2
  return 1
}

# Where our server's log stands; what it then refuses is below.
mark() { server_mark=$(wc -l <"$SERVER_LOG"); }

# Why our server refused something since `mark`: the code of the connection or the reason of the call.
server_refusal() { # PATTERN
  until_line "$SERVER_LOG" "\"\(code\|reason\)\":\"$1\"" "$server_mark" | grep -o -m 1 -e "$1" | head -n 1
}

revoke() { # NAME
  case $PKI in
  countersign) countersign pki revoke "$1" ;;
  openssl) "$REPOSITORY/scripts/certs-openssl" certs --revoke "$1" ;;
  esac >>pki.log 2>&1
}

# Another certificate and key for NAME, beside the one that it has.
rotate() { # NAME
  case $PKI in
  countersign) countersign pki renew "$1" ;;
  openssl) reissue "$1" ;;
  esac >>pki.log 2>&1
}

# scripts/certs-openssl keeps a certificate that is valid, so that it works where there is none, and the result is moved.
reissue() { # NAME
  cp -R certs next
  rm "next/$1/tls.crt"
  "$REPOSITORY/scripts/certs-openssl" next
  mv "next/$1/tls.key" "next/$1/tls.crt" "certs/$1"
  rm -r next
}

# A revocation list of each authority in certs/inventory, which OpenSSL wants as soon as it has one of any: Node, nginx and
# others refuse everybody without that of the root. Ours goes by the lists that there are.
lists_of_all() {
  [ -e certs/inventory/crl.pem ] || countersign pki crl >>pki.log
  printf '%s\n' '[ca]' default_ca=root '[root]' certificate=certs/ca/root.crt private_key=certs/ca/root.key \
    database=root.index crlnumber=root.number default_md=sha256 default_crl_days=30 crl_extensions=list \
    '[list]' authorityKeyIdentifier=keyid:always >root.cnf
  : >root.index
  echo 01 >root.number
  openssl ca -config root.cnf -gencrl -out certs/inventory/root-crl.pem 2>>pki.log
}

# The alert that refuses a handshake with what is given to openssl, if there is one.
alert() { # PORT ARGUMENT…
  local port=$1
  shift
  (sleep 1) | openssl s_client -connect "127.0.0.1:$port" -servername localhost -verify_hostname localhost \
    -verify_return_error -CAfile certs/orders/ca.crt "$@" 2>&1 | grep -a -o -m 1 'alert number [0-9]*' || echo "no alert"
}

# The serial number of the certificate that a server shows.
serial() { # PORT ARGUMENT…
  local port=$1
  shift
  openssl s_client -connect "127.0.0.1:$port" -CAfile certs/orders/ca.crt "$@" 2>/dev/null </dev/null | openssl x509 -noout -serial
}

as() { echo "--cacert certs/orders/ca.crt --cert $1/tls.crt --key $1/tls.key"; } # DIR: options of curl

# The certificate of NAME is revoked: it gets another one, as an operator would give it.
replace() { # NAME
  case $PKI in
  countersign) countersign pki issue "$1" --replace ;;
  openssl) reissue "$1" ;;
  esac >>pki.log 2>&1
}

# The code, and the identifiers in capitals after it, that the last line begins with.
codes() { tail -n 1 | sed -E 's/^([A-Za-z_]+( [A-Z][A-Z_]+)*)( .*)?$/\1/'; }

# The cases of a client of ours. CLIENT ADDRESS DIR get: prints the item, exit code 0, or why not, as CODE REASON.
# CLIENT ADDRESS DIR watch: prints each level; when the stream ends, "ended: CODE REASON", and watches again with what is
# in DIR then. A DIR without tls.crt stands for a client without a certificate.
# One of another CA, some send and some do not, since our server says which authorities it knows: the file of cases has it.
# The client's own words for a server of an unknown authority have WORDS in them.
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
  # A client that trusts the other authority alone is the one to refuse, and our server hears of it.
  mark
  if "$@" "$SERVER" other/orders get >got.log 2>&1; then
    report "$direction" "server of another CA" served
  else
    cat got.log >&2
    reason=$(grep -a -o -m 1 -e "$words" got.log | head -n 1)
    # Each closes the connection in its own way.
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

# A server of ours with another policy, in place of the one that is there.
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

# A certificate of our authority for NAME.
issue() { # NAME OPTION…
  countersign pki issue "$@" >>pki.log 2>&1
}

# The credentials of NAME without a revocation list in listless/, so that others are those who look at one.
without_list() { # NAME
  rm -rf listless
  mkdir listless
  cp "certs/$1"/{tls.crt,tls.key,ca.crt} listless
}

# Our client watches at PORT as WHO; returns when the first level is there.
watch_as() { # PORT WHO
  client --target "https://localhost:$1" --tls-dir "$2" watch >watch.log 2>&1 &
  watching=$!
  until_line watch.log FAS-M6-20 0 >/dev/null
}

# Until that client has ended.
until_ended() {
  for _ in $(seq 150); do
    kill -0 "$watching" 2>/dev/null || return 0
    sleep 0.1
  done
  echo "the watcher is still served" >&2
  return 1
}
