#!/usr/bin/env bash
# libFuzzer over every reader of outside bytes (crates/testing/fuzz), on the stable compiler: the coverage that it needs is a
# pass of LLVM that stable flags turn on. What it finds is kept below .tools/fuzz/found/TARGET and makes this fail.
#
# fuzz.sh [SECONDS]  for each target (30)
# TARGETS='A B'      only these
# JOBS=N             processes for each target (1)
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../lib.sh"

SECONDS_EACH=${1:-30}
JOBS=${JOBS:-1}
INPUT_BYTES_MAX=4096
MEMORY_MIB_MAX=1024
INPUT_SECONDS_MAX=10
need_tools
need c++ g++ "libFuzzer's engine is C++"

host=$(rustc -vV | sed -n 's/^host: //p')
# For the target alone, so that build scripts and macros stay as they are. sancov is what `cargo fuzz` turns on, too.
export CARGO_TARGET_DIR=${FUZZ_TARGET_DIR:-$ROOT/target/fuzz}
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"
step 'building the fuzzer'
cargo build --manifest-path "$ROOT/fuzz/Cargo.toml" --release --locked --quiet --target "$host"
fuzzer="$CARGO_TARGET_DIR/$host/release/agentos-fuzzer"
seeds="$ROOT/crates/testing/fuzz/corpus"
printf '%s, %s s for each target, inputs up to %s bytes, at most %s MiB and %s s for one\n' \
    "$(rustc --version | cut -d ' ' -f 1,2)" "$SECONDS_EACH" "$INPUT_BYTES_MAX" "$MEMORY_MIB_MAX" "$INPUT_SECONDS_MAX"

failed=0
for target in ${TARGETS:-$(ls "$seeds")}; do
    grown="$ROOT/.tools/fuzz/corpus/$target" found="$ROOT/.tools/fuzz/found/$target" log="$ROOT/.tools/fuzz/$target.txt"
    mkdir -p "$grown" "$found"
    status=0
    AGENTOS_FUZZ_TARGET="$target" "$fuzzer" "$grown" "$seeds/$target" -artifact_prefix="$found/" \
        -dict="$ROOT/crates/testing/fuzz/dictionary.txt" -max_total_time="$SECONDS_EACH" -max_len="$INPUT_BYTES_MAX" \
        -rss_limit_mb="$MEMORY_MIB_MAX" -timeout="$INPUT_SECONDS_MAX" -fork="$JOBS" -ignore_crashes=0 -print_final_stats=1 \
        >"$log" 2>&1 || status=$?
    last=$(grep -oE '#[0-9]+: cov: [0-9]+ ft: [0-9]+ corp: [0-9]+' "$log" | tail -n 1 || true)
    if [ "$status" -eq 0 ]; then
        printf 'ok: %s: %s\n' "$target" "$last"
    else
        failed=1
        printf 'FOUND: %s: %s\n' "$target" "$last"
        grep -E 'panicked at|SUMMARY|ERROR|Test unit written' -A 1 "$log" | sed "s|$ROOT/||g; s/^/  /" | head -n 12
    fi
done
exit "$failed"
