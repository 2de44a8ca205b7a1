#!/usr/bin/env bash
# What cargo calls in place of rustc for the crates of this workspace (.cargo/config.toml): rustc itself, and for programs
# that run inside sandboxes with one flag more. They are linked statically, because a sandbox may have no libraries at all,
# and cargo has no setting for a single program. In bash, because other shells drop variables with a dash in their name, and
# cargo tells tests by such variables where the programs are.
set -euo pipefail
rustc=$1
shift
case " $* " in
*" --crate-name agent_os_launch "* | *" --crate-name agent_os_prober "* | *" --crate-name agent_os_intruder "* | \
    *" --crate-name first_word "* | *" --crate-name echo_agent "* | *" --crate-name bomb_agent "* | *" --crate-name limits_it "*)
    set -- "$@" -C target-feature=+crt-static
    ;;
esac
exec "$rustc" "$@"
