#!/usr/bin/env bash
# What cargo calls in place of rustc for the crates of this workspace (.cargo/config.toml): rustc itself, and for some
# programs with one flag more, because cargo has no setting for a single program. Those that run inside sandboxes are linked
# statically: a sandbox may have no libraries at all. agent-os has the compiler's run-time library in it (scripts/link). In
# bash, because other shells drop variables with a dash in their name, and cargo tells tests by such variables where the
# programs are.
set -euo pipefail
rustc=$1
shift
case " $* " in
*" --crate-name agent_os_launch "* | *" --crate-name agent_os_prober "* | *" --crate-name agent_os_intruder "* | \
    *" --crate-name first_word "* | *" --crate-name echo_agent "* | *" --crate-name bomb_agent "* | *" --crate-name limits_it "*)
    set -- "$@" -C target-feature=+crt-static
    ;;
*" --crate-name agent_os "*)
    set -- "$@" -L "native=${0%/*}/link"
    ;;
esac
exec "$rustc" "$@"
