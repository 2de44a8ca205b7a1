#!/usr/bin/env bash
# What is too long for every day: the tests of every day at full size, by many seeds. What a run found is reported as text
# on standard output; a seed that failed is named there and can be repeated alone.
#
# SEEDS=N        storms over agents, one seed each (5)
# FIRST_SEED=N   the first of them (1)
# AGENTS=N       agents in each storm (200)
# CONNECTIONS=N  connections that are dropped in the churn (20000)
# CRASHES=N      rounds over all failpoints on each store, by seeds of their own (5)
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

SEEDS=${SEEDS:-5} FIRST_SEED=${FIRST_SEED:-1} AGENTS=${AGENTS:-200} CONNECTIONS=${CONNECTIONS:-20000} CRASHES=${CRASHES:-5}
need_tools
need python3 python3 'the agents of the storm are written in Python'
cd "$ROOT"

step 'building the programs and the tests'
scripts/build-for-tests.sh
cargo test --package agentos-e2e --locked --quiet --no-run

failed=()
# story NAME TEST VARIABLE=VALUE...: one test by its name, alone on the machine, with what it prints.
story() {
    local name=$1 test=$2
    shift 2
    step "$name"
    if ! env "$@" cargo test --package agentos-e2e --locked --quiet --test it -- --include-ignored --exact "$test" --nocapture; then
        failed+=("$name: env $*")
    fi
}

for ((seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++)); do
    story "storm over $AGENTS agents, seed $seed" \
        chaos::storm::agents_come_and_go_in_every_way_and_nothing_is_lost \
        "AGENTOS_CHAOS_SEED=$seed" "AGENTOS_CHAOS_AGENTS=$AGENTS"
done
story "churn of $CONNECTIONS connections, seed $FIRST_SEED" \
    chaos::connections::a_thousand_connections_dropped_at_every_stage_leave_nothing_behind \
    "AGENTOS_CHAOS_SEED=$FIRST_SEED" "AGENTOS_CHAOS_CONNECTIONS=$CONNECTIONS"
for ((seed = FIRST_SEED; seed < FIRST_SEED + CRASHES; seed++)); do
    for part in first second; do
        for store in sqlite postgres; do
            story "death at the $part half of all failpoints on $store, seed $seed" \
                "failpoints::the_${part}_half_of_all_points_on_$store" "AGENTOS_CRASH_SEED=$seed"
        done
    done
done
story 'how soon an agent is back after one failure' \
    chaos::watchdog::one_failure_of_any_kind_is_over_within_ten_seconds
story 'how soon an agent is back after repeated failures' \
    chaos::watchdog::repeated_failures_are_over_within_a_minute_or_end_in_quarantine

if [ ${#failed[@]} -gt 0 ]; then
    printf '\n%s failed:\n' "${#failed[@]}"
    printf '  %s\n' "${failed[@]}"
    exit 1
fi
printf '\nall passed\n'
