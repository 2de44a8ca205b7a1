#!/usr/bin/env bash
# All tests of the workspace, in the dev profile. Uses cargo-nextest if it is there.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

need_tools
need python3 python3 'some tests run agents written in Python'

# Debian keeps initdb out of PATH; the tests find it themselves.
has_postgres() { command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; }
if ! has_postgres && [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    step 'installing postgresql: half of the store tests run on a throw-away cluster'
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql; } >&2 || true
fi
# Real programs that have to work inside of sandboxes. A JVM is large: it is tested where there is one, and not installed for it.
declare -A packages=([git]=git [curl]=curl [node]=nodejs [gcc]='gcc libc6-dev' [make]=make [bash]=bash [setpriv]=util-linux
    [bwrap]=bubblewrap [npm]=npm)
has() { PATH=/usr/local/bin:/usr/bin:/bin command -v "$1" >/dev/null 2>&1; }
has_venv() { has python3 && /usr/bin/python3 -c 'import ensurepip, venv' 2>/dev/null; }
wanted=()
for program in "${!packages[@]}"; do has "$program" || read -ra wanted <<<"${wanted[*]} ${packages[$program]}"; done
has_venv || wanted+=(python3 python3-venv)
if [ "${#wanted[@]}" -gt 0 ] && [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    step "installing ${wanted[*]}: they are run inside of sandboxes"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${wanted[@]}"; } >&2 || true
fi
# Tests of a disk that is full or fails need a file system of their own, which the machine's table of mounts never sees.
can_mount() {
    local at
    at=$(mktemp -d)
    unshare --mount --propagation private sh -c "truncate -s 8M '$at/image' && mkfs.ext4 -q '$at/image' &&
        mkdir '$at/disk' && mount -o loop '$at/image' '$at/disk' && mount -t tmpfs tmpfs '$at/disk'" >/dev/null 2>&1
    local status=$?
    rm -rf "$at"
    return "$status"
}
select=() skip=()
# leave_out_by_name NAMES...: parts of the names of tests. `house: what_is_left_out_by_name_is_there` compares them with the tests.
leave_out_by_name() {
    local name
    for name in "$@"; do select+=("not test($name)") skip+=(--skip "$name"); done
}
if ! has_postgres; then
    say 'WARNING: Postgres is not installed and cannot be: its tests are left out and counted as skipped.'
    say 'hint: sudo apt-get install postgresql'
    select+=('not test(postgres)') skip+=(--skip postgres)
fi
if ! can_mount; then
    say 'WARNING: this user cannot mount a file system: tests of full and failing disks, of the official clients inside of'
    say 'sandboxes, and of the way out of them, are left out and counted as skipped.'
    say 'hint: run make test as root'
    select+=('not test(/^disk::/)' 'not test(mounted_sdks::)') skip+=(--skip disk:: --skip mounted_sdks::)
    leave_out_by_name programs_reach_what_is_granted a_credential_reaches_its_host a_proxy_that_is_killed_or_stopped \
        a_server_that_is_stopped_opens_nothing a_proxy_killed_under_commands a_server_of_an_ordinary_user_does_its_whole_work
fi
if [ "$(id -u)" -ne 0 ]; then
    say 'WARNING: this user is not root: what only root can start is left out and counted as skipped. Tests of walls that start'
    say 'sandboxes as root and as somebody else leave the first half of themselves out.'
    leave_out_by_name a_server_of_root a_command_that_filled_its_disk nobody_acts_as_root
    export AGENTOS_WITHOUT_ROOT=1
fi
if ! getent hosts "$(uname -n)" >/dev/null; then
    say 'WARNING: the name of this machine has no address: a test that reaches it by name is left out and counted as skipped.'
    leave_out_by_name an_allowed_host_is_reached
fi
leave_out() {
    say "WARNING: $1 is not installed: the stories of it inside of a sandbox are left out and counted as skipped."
    select+=("not test(programs::$2)") skip+=(--skip "programs::$2")
}
has git || leave_out git git
has curl || { leave_out curl curl && leave_out curl server; }
has node || leave_out node node
{ has gcc && has make; } || leave_out 'gcc or make' build
has java || leave_out 'a JVM' java
if ! has bwrap; then
    say 'WARNING: bubblewrap is not installed: what it makes of the walls as a back end is left out and counted as skipped.'
    say 'hint: sudo apt-get install bubblewrap'
    select+=('not test(by_bwrap)') skip+=(--skip by_bwrap)
    # Tests of the launcher that try both leave this half of themselves out.
    export AGENTOS_WITHOUT_BWRAP=1
fi
has_venv || { leave_out 'python3 with venv' python && leave_out python3 server && leave_out python3 command::limits; }
# What is a registry's is tested where that registry answers.
without() {
    say "WARNING: $1 cannot be installed (the reason is above): the stories of it are left out and counted as skipped."
    select+=("not test($2)") skip+=(--skip "$2")
}
"$ROOT/scripts/sdks.sh" || { without 'the official clients' sdks:: && select+=('not test(local_model::)') skip+=(--skip local_model::); }
"$ROOT/scripts/local-model.sh" || without 'the local model' local_model::
cd "$ROOT"
log=$(mktemp) machine=$(mktemp -d)
trap 'rm -rf "$log" "$machine"' EXIT

step 'building the programs and the tests'
scripts/build-for-tests.sh
# What only the product can say of this machine: its level, and whether memory of groups can be bounded.
doctor() {
    target/debug/agent-os --data-dir "$machine/home" init >/dev/null &&
        { target/debug/agent-os --data-dir "$machine/home" --output json doctor || true; } | python3 -c '
import json, sys
machine = json.load(sys.stdin)["machine"]
print(machine["level"], *[row["standing"] for row in machine["rows"] if row["name"] == "memory limit"])'
}
read -r level memory_limit < <(doctor) || { say 'agent-os doctor says nothing of this machine' && exit 1; }
if [ "$level" != strong ]; then
    say "WARNING: doctor calls this machine $level and not strong: the story of a server behind the production gate is left out and"
    say 'counted as skipped. make test-vm has a strong machine.'
    leave_out_by_name behind_the_gate_of_a_strong_machine
fi
if [ "$memory_limit" != present ]; then
    say 'WARNING: nobody here can bound the memory of a group: the attacks on that bound are left out and counted as skipped.'
    leave_out_by_name bombs_of_memory
fi
if [ "${#select[@]}" -gt 0 ]; then
    select=(-E "$(printf '%s and ' "${select[@]}" | sed 's/ and $//')") skip=(-- "${skip[@]}")
fi
# The commands of the README are among the tests; they take what was just built.
export BUILD=no

step 'tests that are left out'
if ! grep -rn --include='*.rs' -A 1 '#\[ignore' crates benches xtask >&2; then say 'none'; fi

step 'running the tests'
status=0
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --workspace --locked --profile ci "${select[@]}" 2>&1 | tee "$log" || status=1
    # nextest runs no examples of the documentation; only the SDK has any.
    examples=$(cargo test --workspace --doc --locked --quiet 2>&1) || { say "$examples" && status=1; }
    summary='^ *Summary '
else
    say 'cargo-nextest is not installed; using cargo test, which is slower (cargo install cargo-nextest --locked)'
    cargo test --workspace --locked --no-fail-fast "${skip[@]}" 2>&1 | tee "$log" || status=1
    summary='^test result: '
fi

# One line that counts everything, whichever runner it was.
sum() { { grep -E "$summary" "$log" | grep -oE "[0-9]+ $1" || true; } | awk '{ n += $1 } END { print n + 0 }'; }
skipped=$(($(sum skipped) + $(sum ignored)))
if [ "${#skip[@]}" -gt 0 ]; then skipped=$((skipped + $(sum 'filtered out'))); fi
printf '\n%s passed, %s failed, %s skipped\n' "$(sum passed)" "$(sum '(failed|timed out)')" "$skipped"
exit "$status"
