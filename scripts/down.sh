#!/usr/bin/env bash
# Stops the server of the data directory and waits for its end. The data stays.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

export AGENT_OS_HOME=${AGENT_OS_HOME:-$ROOT/.agent-os}
[ -x "$BIN/agent-os" ] || die "there is no $BIN/agent-os" 'run make up first, with the same PROFILE'
exec "$BIN/agent-os" down
