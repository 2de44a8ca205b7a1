#!/usr/bin/env bash
# Figures of this machine beside their goals. Arguments go to the program.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

# The programs are built as they ship, apart from the benches, whose dependencies could add features to them.
PROFILE=release BIN="$ROOT/target/release"
build_programs
if [ "${BUILD:-yes}" != no ]; then "$ROOT/scripts/build-for-tests.sh" open-launcher-for-benches; fi
cd "$ROOT"
cargo build --release --locked --quiet -p agentos-benches
exec "$BIN/agentos-benches" "$@"
