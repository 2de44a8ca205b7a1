#!/usr/bin/env bash
# Formatting, lints, generated files. Changes nothing.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

need_tools
cd "$ROOT"
step 'formatting'
cargo fmt --all --check || die 'some files are not formatted' 'cargo fmt --all'
step 'lints'
cargo clippy --workspace --all-targets --locked --quiet --keep-going -- -D warnings
step 'lock file of the fuzzer'
cargo metadata --manifest-path fuzz/Cargo.toml --locked --format-version 1 >/dev/null || die 'fuzz/Cargo.lock is old' 'cargo metadata --manifest-path fuzz/Cargo.toml'
step 'generated files'
# Built with the whole workspace: the same dependencies as for the tests, not once more with other features.
cargo build --workspace --bins --tests --locked --quiet
target/debug/xtask gen --check
