#!/usr/bin/env bash
# Builds what the tests need, into target/debug: the programs, the tests, agent-os-failpoints, which is agent-os with the
# instants at which a test lets it die, and agent-os-launch-open, which is the launcher that leaves walls out when a test asks
# for it. `make test` calls it; arguments go to the last call of cargo.
#
# With --launcher-for-benches it builds that launcher alone, optimised, for the figures of `make bench`.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

need_tools
cd "$ROOT"
# In a directory of its own: nothing with holes ever lies in target/release under the name of what is shipped.
if [ "${1:-}" = --launcher-for-benches ]; then
  cargo build --release --locked --quiet --target-dir target/for-benches -p agentos-launcher --features walls-left-out
  mkdir -p target/release
  cp target/for-benches/release/agent-os-launch target/release/agent-os-launch-open.new
  mv target/release/agent-os-launch-open.new target/release/agent-os-launch-open
  exit
fi
# First the programs for tests alone, because they are built under the names of the ordinary ones. The example gives this call
# the features that the tests' dependencies have, so that nothing is built a second time but the crates with points.
cargo build --workspace --locked --quiet --bin agent-os --bin agent-os-launch --example failpoints \
  --features agent-os/failpoints,agentos-launcher/walls-left-out
for pair in agent-os:agent-os-failpoints agent-os-launch:agent-os-launch-open; do
  cp "target/debug/${pair%:*}" "target/debug/${pair#*:}.new"
  mv "target/debug/${pair#*:}.new" "target/debug/${pair#*:}"
done
# One call, so that programs and tests share their dependencies.
cargo build --workspace --locked --quiet --bins --tests "$@"
