#!/usr/bin/env bash
# slowhttptest against a server of its own, in its four modes. A client that behaves is asked all the while from another
# address and with a token; a single request of it that is not answered within its time is a finding.
#
# CONNECTIONS=N  slow connections at the same time (400)
# DURATION=S     seconds for each mode (12)
set -euo pipefail
# shellcheck source=scripts/deep/lib.sh
. "$(dirname "$0")/lib.sh"

CONNECTIONS=${CONNECTIONS:-400}
DURATION=${DURATION:-12}
PATIENCE_S=2
need curl curl 'a client that behaves is played by curl'
need slowhttptest slowhttptest 'it makes the slow clients'

start_server '[gateway]
connections_max = 256
strangers_per_address_max = 64
request_timeout_ms = 5000'
report "$(slowhttptest -h 2>&1 | grep -oE 'slowhttptest[^,]*v[0-9. ]+' | head -n 1 || true)"
report "$CONNECTIONS slow connections where 256 are allowed and 64 for one address; a client asks every 100 ms, patience $PATIENCE_S s"

# behave: asks until the mode is over, as a stranger from another address and with a token from the attacker's own.
behave() {
    local asked=0 refused=0 slowest=0 time
    until [ -e "$SCRATCH/over" ]; do
        for arguments in '--interface 127.0.0.2 /live' "--header @$SCRATCH/authorization /api/v1/agents"; do
            asked=$((asked + 1))
            # shellcheck disable=SC2086
            if time=$(curl --silent --fail --output /dev/null --max-time "$PATIENCE_S" --write-out '%{time_total}' \
                ${arguments% *} "$URL${arguments##* }"); then
                time=${time/./}
                time=$((10#${time:0:4}))
                if [ "$time" -gt "$slowest" ]; then slowest=$time; fi
            else
                refused=$((refused + 1))
            fi
        done
        sleep 0.1
    done
    printf '%s %s %s\n' "$asked" "$refused" "$slowest" >"$SCRATCH/behaved"
}
printf 'Authorization: Bearer %s\n' "$TOKEN" >"$SCRATCH/authorization"

failed=0
# mode NAME ARGUMENTS...: one attack, with what it cost the others.
mode() {
    local name=$1 asked refused slowest state
    shift
    rm -f "$SCRATCH/over" "$SCRATCH/behaved"
    behave &
    local witness=$!
    timeout $((DURATION + 30)) slowhttptest -c "$CONNECTIONS" -r 200 -l "$DURATION" -p 3 "$@" >"$SCRATCH/$name.txt" 2>&1 || true
    touch "$SCRATCH/over"
    wait "$witness"
    read -r asked refused slowest <"$SCRATCH/behaved"
    state=ok
    if [ "$refused" -gt 0 ] || [ "$asked" -lt 10 ]; then
        state=FOUND
        failed=1
    fi
    report "$state: $name: $asked requests of others, $refused not answered, slowest $slowest ms"
    sed 's/\x1b\[[0-9;]*m//g' "$SCRATCH/$name.txt" | grep -E '^(Closed|Error|Connected|Exit|initializing|pending|connected|error|closed|service)|service available' |
        tail -n 6 | sed 's/^/  /' || true
}
mode headers -H -i 2 -t GET -u "$URL/live" -x 10
# With a token, because a stranger's body is not waited for.
slow=$(agent_os --quiet token create slow --role operator)
mode body -B -i 2 -s 8192 -t POST -f "application/json"$'\r\n'"Authorization: Bearer $slow" -u "$URL/api/v1/tasks" -x 10
mode read -X -w 10 -y 20 -n 5 -z 32 -k 3 -u "$URL/errors/AOS-1000"
mode range -R -a 10 -b 3000 -u "$URL/live"
is_live || die 'the server does not answer any more'
no_surprise_in_log || failed=1
exit "$failed"
