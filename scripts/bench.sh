#!/usr/bin/env bash
# Figures of this machine beside their goals. Arguments go to the program.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

PROFILE=release BIN="$ROOT/target/release"
PACKAGES+=(agentos-benches)
build_programs
cd "$ROOT"
exec cargo run --release --locked --quiet -p agentos-benches -- "$@"
