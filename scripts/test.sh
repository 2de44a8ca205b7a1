#!/usr/bin/env bash
# All tests of the workspace, in the dev profile. Uses cargo-nextest if it is there.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

need_tools
need python3 python3 'some tests run agents written in Python'
cd "$ROOT"
log=$(mktemp)
trap 'rm -f "$log"' EXIT

step 'building the programs and the tests'
# One call, so that programs and tests share their dependencies. The stories run the programs from target/debug.
cargo build --workspace --bins --tests --locked --quiet
# The commands of the README are among the tests; they take what was just built.
export BUILD=no

step 'tests that are left out'
if ! grep -rn --include='*.rs' -A 1 '#\[ignore' crates benches xtask >&2; then say 'none'; fi

step 'running the tests'
status=0
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --workspace --locked --profile ci 2>&1 | tee "$log" || status=1
    # nextest runs no examples of the documentation; only the SDK has any.
    examples=$(cargo test --workspace --doc --locked --quiet 2>&1) || { say "$examples" && status=1; }
    summary='^ *Summary '
else
    say 'cargo-nextest is not installed; using cargo test, which is slower (cargo install cargo-nextest --locked)'
    cargo test --workspace --locked --no-fail-fast 2>&1 | tee "$log" || status=1
    summary='^test result: '
fi

# One line that counts everything, whichever runner it was.
sum() { { grep -E "$summary" "$log" | grep -oE "[0-9]+ $1" || true; } | awk '{ n += $1 } END { print n + 0 }'; }
printf '\n%s passed, %s failed, %s skipped\n' "$(sum passed)" "$(sum '(failed|timed out)')" "$(($(sum skipped) + $(sum ignored)))"
exit "$status"
