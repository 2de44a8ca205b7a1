#!/usr/bin/env bash
# Figures of this machine beside their goals. Arguments go to the program.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

# The launcher that leaves walls out comes first, because it is built under the name of the ordinary one. Then the programs as
# they ship, apart from the benches, whose dependencies could add features to them.
PROFILE=release BIN="$ROOT/target/release"
need_tools
cd "$ROOT"
if [ "${BUILD:-yes}" != no ]; then
    cargo build --release --locked --quiet -p agentos-launcher --features walls-left-out
    cp "$BIN/agent-os-launch" "$BIN/agent-os-launch-open.new"
    mv "$BIN/agent-os-launch-open.new" "$BIN/agent-os-launch-open"
fi
build_programs
cargo build --release --locked --quiet -p agentos-benches
exec "$BIN/agentos-benches" "$@"
