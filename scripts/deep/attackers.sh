#!/usr/bin/env bash
# Attackers of our own against a server of their own: guessing of tokens, paths that climb, injected headers and hosts, other
# people's browsers, tokens in URLs, methods that should not be. One line for each attack; FOUND where one got further than
# it may.
set -euo pipefail
# shellcheck source=scripts/deep/lib.sh
. "$(dirname "$0")/lib.sh"

need curl curl 'the server is asked whether it is ready'
need python3 python3 'the attackers are written in Python'
start_server '[gateway]
auth_failures_max = 20'
failed=0
python3 "$ROOT/scripts/deep/attackers.py" "$URL" "$SCRATCH/home/cli.token" || failed=1
is_live || die 'the server does not answer any more'
report "refusals in the audit log: $(agent_os --output json audit query --action gateway.request | grep -c '"denied"' || true) records, at most 5 a second for one address"
lockouts=$(agent_os --output json audit query --action gateway.lockout | grep -c '"gateway.lockout"' || true)
report "lockouts in the audit log: $lockouts"
if [ "$lockouts" -ne 1 ]; then
    report 'FOUND: one address was locked out, and the log has not one record of it'
    failed=1
fi
if grep -qF "$TOKEN" "$SCRATCH/server.log"; then
    report "FOUND: the log of the server holds the token"
    failed=1
fi
no_surprise_in_log || failed=1
exit "$failed"
