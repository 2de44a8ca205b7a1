#!/usr/bin/env bash
# schemathesis against a server of its own: requests made from openapi/agent-os.json, valid and not, with the token of an
# administrator, with that of a viewer and without one. A 5xx, a status or a type that the document does not name, or a body
# of another shape is a finding.
#
# EXAMPLES=N  requests for each operation and phase (40)
set -euo pipefail
# shellcheck source=scripts/deep/lib.sh
. "$(dirname "$0")/lib.sh"

VERSION=4.32.5
EXAMPLES=${EXAMPLES:-40}
# Streams never end, and a WebSocket is no request with an answer.
LEFT_OUT='/stream$|/ws$'
need curl curl 'the server is asked whether it is ready'
need python3 python3 'schemathesis is written in Python'

if [ ! -x "$TOOLS/schemathesis/bin/st" ]; then
    step "installing schemathesis $VERSION into .tools"
    python3 -m venv "$TOOLS/schemathesis"
    "$TOOLS/schemathesis/bin/pip" install --quiet "schemathesis==$VERSION"
fi

start_server '[gateway]
requests_per_second = 1000000
auth_failures_max = 1000000'
report "schemathesis $VERSION, at most $EXAMPLES examples for each operation and phase"

failed=0
# attack NAME HEADER...: one run; what it found, in its own words.
attack() {
    local name=$1 log="$SCRATCH/$1.txt" begin=$SECONDS checks
    shift
    checks=not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance
    if (cd "$SCRATCH" && "$TOOLS/schemathesis/bin/st" --no-color run "$ROOT/openapi/agent-os.json" --url "$URL" \
        --exclude-path-regex "$LEFT_OUT" --checks "$checks" --max-examples "$EXAMPLES" --seed 1 --workers 1 \
        --request-timeout 10 --generation-database none --continue-on-failure "$@") >"$log" 2>&1; then
        report "$name: nothing found, $((SECONDS - begin)) s"
    else
        report "$name: FOUND, $((SECONDS - begin)) s"
        failed=1
    fi
    # The summary; all of it where something was found.
    if [ "$failed" -eq 0 ]; then
        sed -n '/SUMMARY/,$p' "$log" | sed "s|$URL|URL|g; s|$ROOT/||g; /^$/d; s/^/  /"
    else
        sed "s|$URL|URL|g; s|$ROOT/||g; s/^/  /" "$log" | tail -n 400
    fi
}
viewer=$(agent_os --quiet token create schemathesis --role viewer)
attack administrator --header "Authorization: Bearer $TOKEN"
attack viewer --header "Authorization: Bearer $viewer"
attack 'without a token'
is_live || die 'the server does not answer any more'
no_surprise_in_log || failed=1
exit "$failed"
