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
step 'profiles of AppArmor'
if ! command -v apparmor_parser >/dev/null && [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    (need apparmor_parser apparmor 'it reads the profiles of deploy/apparmor') || true
fi
if command -v apparmor_parser >/dev/null; then
    # With the features of a kernel that has AppArmor, whatever this one has.
    for profile in deploy/apparmor/*; do
        apparmor_parser --skip-kernel-load --skip-cache --quiet --kernel-features /etc/apparmor.d/abi/3.0 "$profile" ||
            die "$profile does not parse" 'see man 5 apparmor.d'
    done
else
    say 'left out: apparmor_parser is not installed and cannot be (sudo apt-get install apparmor)'
fi
step 'the launcher for aarch64'
target=aarch64-unknown-linux-gnu
if [ -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]; then
    # Its system calls have other numbers and its structures other fields; nothing is linked, so that no other tool is needed.
    cargo check --package agentos-launcher --target "$target" --locked --quiet
else
    say "left out: this toolchain has no $target (rustup target add $target; make test-deep ONLY=aarch64 has its own)"
fi
step 'generated files'
# Built with the whole workspace: the same dependencies as for the tests, not once more with other features.
cargo build --workspace --bins --tests --locked --quiet
target/debug/xtask gen --check
