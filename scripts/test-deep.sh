#!/usr/bin/env bash
# What is too long for every day: the tests of every day at full size, by many seeds, attackers from outside, and a fuzzer.
# Everything runs on this machine alone, one story after the other. What was found is told on standard output and in
# docs/quality/deep-DATE.md; a seed that failed is named there and can be repeated alone.
#
# ONLY='A B'     sections: storms churn watchdog simulation crashes outage soak doors scanners models fuzz aarch64 (all)
# SEEDS=N        storms over agents, one seed each (5)
# FIRST_SEED=N   the first of them (1)
# AGENTS=N       agents in each storm (200)
# CONNECTIONS=N  connections that are dropped in the churn (20000)
# SIMULATIONS=N  seeds of the simulation (10000)
# CRASHES=N      rounds over all failpoints on each store, by seeds of their own (5)
# SOAK_DAYS=N    days of work with a retention of two days, on each store (60)
# SOAK_TASKS=N   tasks of each day (500)
# FUZZ_SECONDS=N for each target of the fuzzer (60)
# REPORT=FILE    the report (docs/quality/deep-DATE.md)
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

SECTIONS='storms churn watchdog simulation crashes outage soak doors scanners models fuzz aarch64'
ONLY=${ONLY:-$SECTIONS}
SEEDS=${SEEDS:-5} FIRST_SEED=${FIRST_SEED:-1} AGENTS=${AGENTS:-200} CONNECTIONS=${CONNECTIONS:-20000}
SIMULATIONS=${SIMULATIONS:-10000} CRASHES=${CRASHES:-5} SOAK_DAYS=${SOAK_DAYS:-60} SOAK_TASKS=${SOAK_TASKS:-500} FUZZ_SECONDS=${FUZZ_SECONDS:-60}
today=$(date -u +%Y-%m-%d)
REPORT=${REPORT:-$ROOT/docs/quality/deep-$today.md}
for section in $ONLY; do
    case " $SECTIONS " in
    *" $section "*) ;;
    *) die "there is no section $section" "ONLY takes: $SECTIONS" ;;
    esac
done
need_tools
need python3 python3 'the agents of the storm are written in Python'
cd "$ROOT"
log=$(mktemp)
trap 'rm -f "$log"' EXIT

step 'building the programs and the tests'
scripts/build-for-tests.sh
cargo test --package agentos-e2e --locked --quiet --no-run

failed=() section=
# Lines of the report; what a story printed stands below its line.
results=()

is_asked_for() {
    section=$1
    case " $ONLY " in *" $section "*) return 0 ;; *) return 1 ;; esac
}

# run NAME COMMAND...: one story, alone on the machine.
run() {
    local name=$1 begin=$SECONDS outcome=passed
    shift
    step "$name"
    if ! "$@" 2>&1 | tee "$log"; then
        outcome=FAILED
        failed+=("$name: $*")
    fi
    results+=("" "### $name: $outcome, $((SECONDS - begin)) s" "" '```text' "$(told)" '```')
}

# What of the output belongs into a report: no colours, no paths, no addresses, not the frame of the test program.
told() {
    sed -e 's/\x1b\[[0-9;]*m//g' -e "s|$ROOT/||g; s|$HOME|~|g; s|/tmp/[A-Za-z0-9._/-]*|TMP|g" "$log" |
        grep -vE '^(running [0-9]+ test|test result:|test .* \.\.\. |start the server with|==>|$)|filtered out' | tail -n 60 || true
}

# [PACKAGE=NAME] story NAME TEST VARIABLE=VALUE...: one test by its name, with what it prints.
story() {
    local name=$1 test=$2
    shift 2
    run "$name" env "$@" cargo test --package "${PACKAGE:-agentos-e2e}" --locked --quiet --test it -- --include-ignored --exact "$test" --nocapture
}

# script NAME FILE ARGUMENTS...: one script of scripts/deep.
script() {
    local name=$1 file=$2
    shift 2
    run "$name" "scripts/deep/$file" "$@"
}

if is_asked_for storms; then
    for ((seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++)); do
        story "storm over $AGENTS agents, seed $seed" \
            chaos::storm::agents_come_and_go_in_every_way_and_nothing_is_lost \
            "AGENTOS_CHAOS_SEED=$seed" "AGENTOS_CHAOS_AGENTS=$AGENTS"
    done
fi
if is_asked_for churn; then
    story "churn of $CONNECTIONS connections, seed $FIRST_SEED" \
        chaos::connections::a_thousand_connections_dropped_at_every_stage_leave_nothing_behind \
        "AGENTOS_CHAOS_SEED=$FIRST_SEED" "AGENTOS_CHAOS_CONNECTIONS=$CONNECTIONS"
fi
if is_asked_for watchdog; then
    story 'how soon an agent is back after one failure' \
        chaos::watchdog::one_failure_of_any_kind_is_over_within_ten_seconds
    story 'how soon an agent is back after repeated failures' \
        chaos::watchdog::repeated_failures_are_over_within_a_minute_or_end_in_quarantine
fi
if is_asked_for simulation; then
    for half in first second; do
        PACKAGE=agentos-sim story "simulation, $half half of $SIMULATIONS seeds from $FIRST_SEED" \
            "seeds::a_thousand_seeds_of_work_and_faults_keep_every_promise_${half}_half" \
            "AGENTOS_SIM_FIRST_SEED=$FIRST_SEED" "AGENTOS_SIM_SEEDS=$SIMULATIONS"
    done
    PACKAGE=agentos-sim story 'simulation on Postgres, 200 seeds' \
        seeds::seeds_of_work_and_faults_keep_every_promise_on_postgres \
        "AGENTOS_SIM_FIRST_SEED=$FIRST_SEED" AGENTOS_SIM_SEEDS_ON_POSTGRES=200
    for backend in sqlite postgres; do
        PACKAGE=agentos-sim story "generated sequences on $backend" \
            "sequences::generated_sequences_keep_every_promise_on_$backend" AGENTOS_SIM_CASES=500
    done
fi
if is_asked_for crashes; then
    for ((seed = FIRST_SEED; seed < FIRST_SEED + CRASHES; seed++)); do
        for part in first second; do
            for store in sqlite postgres; do
                story "death at the $part half of all failpoints on $store, seed $seed" \
                    "failpoints::the_${part}_half_of_all_points_on_$store" "AGENTOS_CRASH_SEED=$seed"
            done
        done
    done
fi
if is_asked_for outage; then
    # Two seconds would be more than a client waits for: a submit asks a dozen questions, one after the other.
    story 'Postgres behind a way that takes half a second for each question' \
        outage::a_slow_and_a_narrow_way_to_postgres_only_cost_time AGENTOS_OUTAGE_DELAY_MS=250
fi
if is_asked_for soak; then
    story "soak of $SOAK_DAYS days with $SOAK_TASKS tasks each, seed $FIRST_SEED, embedded store" \
        soak::weeks_of_work_leave_the_embedded_store_as_large_as_days_do \
        "AGENTOS_SOAK_SEED=$FIRST_SEED" "AGENTOS_SOAK_DAYS=$SOAK_DAYS" "AGENTOS_SOAK_TASKS=$SOAK_TASKS"
    story "soak of $SOAK_DAYS days with $SOAK_TASKS tasks each, seed $FIRST_SEED, Postgres" \
        soak::weeks_of_work_leave_postgres_as_large_as_days_do \
        "AGENTOS_SOAK_SEED=$FIRST_SEED" "AGENTOS_SOAK_DAYS=$SOAK_DAYS" "AGENTOS_SOAK_TASKS=$SOAK_TASKS"
fi
if is_asked_for doors; then
    story 'every bad input and its answer' doors::hostile::every_bad_input_is_answered_as_the_written_table_says
    script 'attackers of our own' attackers.sh
fi
if is_asked_for scanners; then
    script 'schemathesis over the OpenAPI document' schemathesis.sh
    script 'slowhttptest in its four modes' slowhttptest.sh
    script 'testssl.sh against TLS' testssl.sh
fi
if is_asked_for models; then
    scripts/sdks.sh
    scripts/local-model.sh
    story 'a real model behind the gateway: chat, stream, schema, a tool that is called by prompt' \
        models::local_model::a_real_model_chats_streams_follows_a_schema_and_calls_the_tool_it_is_told_to
    story 'official clients on the gateway' models::sdks::official_clients_see_no_difference_to_their_provider
    story 'official clients and faults' models::sdks::official_clients_raise_their_own_exceptions
    story 'official clients inside of a sandbox' \
        models::sdks::official_clients_work_inside_of_a_sandbox_by_their_environment_alone
    story 'calls at the limit of a budget' models::budgets::fifty_calls_at_once_at_the_limit_never_spend_more_than_it
fi
if is_asked_for fuzz; then
    script "fuzzing, $FUZZ_SECONDS s for each target" fuzz.sh "$FUZZ_SECONDS"
fi
if is_asked_for aarch64; then
    script 'the launcher on aarch64' aarch64.sh
fi

# The facts of the machine without its name.
facts() {
    printf '%s cores, %s MiB memory, Linux %s, %s' "$(nproc)" "$(awk '/MemTotal/ { print int($2 / 1024) }' /proc/meminfo)" \
        "$(uname -r | cut -d . -f 1,2)" "$(rustc --version | cut -d ' ' -f 1,2)"
}
verdict='All passed.'
if [ ${#failed[@]} -gt 0 ]; then verdict="${#failed[@]} failed."; fi
{
    printf '# Deep tests of %s\n\n' "$today"
    printf '```sh\nmake test-deep'
    if [ "$ONLY" != "$SECTIONS" ]; then printf " ONLY='%s'" "$ONLY"; fi
    printf ' SEEDS=%s FIRST_SEED=%s AGENTS=%s CONNECTIONS=%s SIMULATIONS=%s CRASHES=%s SOAK_DAYS=%s SOAK_TASKS=%s FUZZ_SECONDS=%s\n```\n\n' \
        "$SEEDS" "$FIRST_SEED" "$AGENTS" "$CONNECTIONS" "$SIMULATIONS" "$CRASHES" "$SOAK_DAYS" "$SOAK_TASKS" "$FUZZ_SECONDS"
    printf '%s. %s The whole run took %s s.\n' "$(facts)" "$verdict" "$SECONDS"
    printf '%s\n' "${results[@]}"
} >"$REPORT"
say "the report is in $REPORT"

if [ ${#failed[@]} -gt 0 ]; then
    printf '\n%s failed:\n' "${#failed[@]}"
    printf '  %s\n' "${failed[@]}"
    exit 1
fi
printf '\nall passed\n'
