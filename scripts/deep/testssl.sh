#!/usr/bin/env bash
# testssl.sh against a server of its own with TLS. What it rates LOW or worse is a finding, but for the lines that are
# explained below: they follow from a certificate that was made for this run alone.
set -euo pipefail
# shellcheck source=scripts/deep/lib.sh
. "$(dirname "$0")/lib.sh"

need curl curl 'the server is asked whether it is ready'
need openssl openssl 'it makes the certificate of the run'
need testssl testssl.sh 'it looks at TLS from outside'

# About the throw-away certificate, about names that only a public host has, and about the openssl that testssl.sh runs with.
EXPLAINED='^(cert_chain_of_trust|cert_revocation|DNS_CAArecord|engine_problem)$'

mkdir -p "$SCRATCH/tls"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout "$SCRATCH/tls/key.pem" -out "$SCRATCH/tls/cert.pem" 2>/dev/null
chmod 600 "$SCRATCH/tls/key.pem"
start_server "[gateway]
tls_cert_file = \"$SCRATCH/tls/cert.pem\"
tls_key_file = \"$SCRATCH/tls/key.pem\""
report "testssl.sh $(testssl --version 2>/dev/null | sed 's/\x1b\[[0-9;]*m//g' | grep -oE 'testssl(\.sh)? +[0-9.]+' | grep -oE '[0-9.]+$' | head -n 1)"

# Its tests one after the other, each connection with its own limit, no look-ups beyond this machine.
timeout 900 testssl --quiet --color 0 --warnings off --nodns none --connect-timeout 10 --openssl-timeout 10 \
    --protocols --server-defaults --server-preference --fs --vulnerable --cipher-per-proto \
    --csvfile "$SCRATCH/tls.csv" "127.0.0.1:$PORT" >"$SCRATCH/testssl.txt" 2>&1 || true
[ -s "$SCRATCH/tls.csv" ] || die 'testssl.sh wrote no result' "$(tail -n 5 "$SCRATCH/testssl.txt")"

# id, ip/port, port, severity, finding, ...
fields() { sed 's/^"//; s/"$//' "$SCRATCH/tls.csv" | awk -F '","' 'NR > 1 { print $4 "\t" $1 "\t" $5 }'; }
report "protocols and ciphers"
fields | awk -F '\t' '$2 ~ /^(SSLv2|SSLv3|TLS1|TLS1_1|TLS1_2|TLS1_3|ALPN|FS|FS_ciphers|cipherlist_.*|cipher_order|cipher_negotiated|protocol_negotiated)$/ { print "  " $1 ": " $2 ": " $3 }'
report "severities"
fields | cut -f 1 | sort | uniq -c | sed 's/^/  /'
found=$(fields | awk -F '\t' -v explained="$EXPLAINED" '$1 ~ /^(LOW|MEDIUM|HIGH|CRITICAL|FATAL|WARN)$/ && $2 !~ explained { print "  FOUND: " $1 ": " $2 ": " $3 }')
report "rated LOW or worse and explained: the certificate of this run is its own issuer; openssl of this machine has no engine"
fields | awk -F '\t' -v explained="$EXPLAINED" '$1 ~ /^(LOW|MEDIUM|HIGH|CRITICAL|FATAL|WARN)$/ && $2 ~ explained { print "  " $1 ": " $2 ": " $3 }' | sort -u
is_live || die 'the server does not answer any more'
no_surprise_in_log
if [ -n "$found" ]; then
    report "$found"
    exit 1
fi
report 'nothing found'
