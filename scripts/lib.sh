#!/usr/bin/env bash
# Shared by the scripts: where things are, what must be installed, how to build, how to talk.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PROFILE=${PROFILE:-release}
case "$PROFILE" in
release) BIN="$ROOT/target/release" ;;
dev) BIN="$ROOT/target/debug" ;;
*) printf 'error: PROFILE is %s; write release or dev\n' "$PROFILE" >&2 && exit 2 ;;
esac
# The programs of a running installation, in the order in which they are built.
PACKAGES=(agent-os agentos-launcher agentos-egress agentos-proof agentos-agent-monitor)

step() { printf '\n==> %s\n' "$*" >&2; }
say() { printf '%s\n' "$*" >&2; }

# die MESSAGE [HINT]
die() {
    printf 'error: %s\n' "$1" >&2
    if [ $# -gt 1 ]; then printf 'hint: %s\n' "$2" >&2; fi
    exit 1
}

# Rust, and a C compiler for the SQLite that is built in.
need_tools() {
    if ! command -v cargo >/dev/null && [ -f "$HOME/.cargo/env" ]; then
        # shellcheck disable=SC1091
        . "$HOME/.cargo/env"
    fi
    command -v cargo >/dev/null || die 'cargo is not installed' 'install Rust 1.95 or later, for example with rustup'
    need cc build-essential 'the embedded SQLite needs a C compiler'
}

# need PROGRAM PACKAGE REASON: installs the Debian package when the program is missing and we are root.
need() {
    if command -v "$1" >/dev/null; then return; fi
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        die "$1 is not installed: $3" "sudo apt-get install $2"
    fi
    step "installing $2: $3"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2" >&2
}

# The four programs, unless BUILD=no.
build_programs() {
    if [ "${BUILD:-yes}" = no ]; then
        [ -x "$BIN/agent-os" ] || die "there is no $BIN/agent-os" 'leave BUILD=no out'
        return
    fi
    need_tools
    step "building (profile $PROFILE; the first time takes some minutes)"
    local arguments=()
    for package in "${PACKAGES[@]}"; do arguments+=(-p "$package"); done
    (cd "$ROOT" && cargo build --locked --quiet --profile "$PROFILE" "${arguments[@]}")
}

# First value of a text member of a JSON document on standard input. Enough for our own output; not a parser.
json_text() { sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p" | head -n 1; }
json_number() { sed -n "s/.*\"$1\": *\([0-9][0-9]*\).*/\1/p" | head -n 1; }

# until_true SECONDS WHAT COMMAND...: tries the command until it succeeds.
until_true() {
    local limit=$1 what=$2 begin=$SECONDS
    shift 2
    until "$@"; do
        [ $((SECONDS - begin)) -lt "$limit" ] || die "no $what within $limit s" 'look into server.log of the data directory'
        sleep 0.2
    done
}

# package_monitor SOURCE_DIR GRANTS: makes the package of the Monitor agent with its program and further grants, and
# prints whether it has to be deployed: `new` or `same`. The version rises whenever the content differs, because a version
# that was deployed stands for its content for good.
package_monitor() {
    local directory=$1 grants=$2 template="$ROOT/agents/monitor/agent.toml" content revision=0 known=''
    mkdir -p "$directory"
    content=$( (cat "$template" "$BIN/agent-os-monitor" && printf '%s' "$grants") | sha256sum | cut -d ' ' -f 1)
    if [ -f "$directory/revision" ]; then read -r revision known <"$directory/revision"; fi
    if [ "$content" = "$known" ]; then
        printf 'same\n'
        return
    fi
    revision=$((revision + 1))
    sed "s/^version = \"\([0-9]*\.[0-9]*\)\.[0-9]*\"/version = \"\1.$revision\"/" "$template" >"$directory/agent.toml"
    printf '%s' "$grants" >>"$directory/agent.toml"
    install -m 755 "$BIN/agent-os-monitor" "$directory/agent-os-monitor"
    printf '%s %s\n' "$revision" "$content" >"$directory/revision"
    printf 'new\n'
}

# grant CATEGORY ACTIONS RESOURCES: one [[grants]] table; actions and resources as TOML lists.
grant() { printf '\n[[grants]]\ncategory = "%s"\nactions = %s\nresources = %s\n' "$1" "$2" "$3"; }
