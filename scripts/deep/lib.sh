#!/usr/bin/env bash
# Shared by the scripts that attack a server of their own: one installation in a temporary directory, on a free port of the
# loopback interface, ended together with the script.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

# The programs of the tests are built in the dev profile; what is looked for here does not depend on it.
DEEP_PROFILE=${DEEP_PROFILE:-debug}
DEEP_BIN="$ROOT/target/$DEEP_PROFILE"
TOOLS="$ROOT/.tools"
SCRATCH=$(mktemp -d)
SERVER_PID=

end_server() {
    if [ -n "$SERVER_PID" ]; then
        kill "$SERVER_PID" 2>/dev/null || true
        wait "$SERVER_PID" 2>/dev/null || true
        SERVER_PID=
    fi
}
at_exit() {
    end_server
    rm -rf "$SCRATCH"
}
trap at_exit EXIT

# agent_os ARGUMENTS...: the command line of the server under attack.
agent_os() { env -i AGENT_OS_HOME="$SCRATCH/home" "$DEEP_BIN/agent-os" "$@"; }

# start_server [CONFIGURATION]: sets URL, HOST, PORT, TOKEN and SERVER_PID.
start_server() {
    [ -x "$DEEP_BIN/agent-os" ] || die "there is no $DEEP_BIN/agent-os" 'cargo build --workspace --bins'
    agent_os init >/dev/null
    printf '%s\n' "${1:-}" >"$SCRATCH/home/agent-os.toml"
    AGENT_OS_HOME="$SCRATCH/home" "$DEEP_BIN/agent-os" up --port 0 >"$SCRATCH/up.log" 2>"$SCRATCH/server.log" &
    SERVER_PID=$!
    until_true 30 'server' test -s "$SCRATCH/home/server.json"
    URL=$(json_text url <"$SCRATCH/home/server.json")
    URL=${URL%/}
    HOST=${URL#*://}
    PORT=${HOST##*:}
    TOKEN=$(cat "$SCRATCH/home/cli.token")
    until_true 30 'answer of /ready' is_live
}

is_live() { curl --insecure --silent --fail --max-time 5 "$URL/ready" >/dev/null; }

# report LINE...: one line of the result, on standard output.
report() { printf '%s\n' "$*"; }

# version_of COMMAND...: the first line that it prints.
version_of() { "$@" 2>&1 | sed -n 1p; }

# no_surprise_in_log: a panic or an internal error in the server's log is a finding of any attack.
no_surprise_in_log() {
    local found
    found=$(grep -cE 'panicked|AOS-1000' "$SCRATCH/server.log" || true)
    if [ "$found" -gt 0 ]; then
        grep -E 'panicked|AOS-1000' "$SCRATCH/server.log" | sed 's/^/  /' | head -n 20
        report "FOUND: $found lines of the server's log tell of a panic or an internal error"
        return 1
    fi
    report 'the log of the server: no panic, no internal error'
}
