#!/usr/bin/env bash
# Builds what the tests need, into target/debug: the programs, the tests, agent-os-failpoints, which is agent-os with the
# instants at which a test lets it die, and agent-os-launch-open, which is the launcher that leaves walls out when a test asks
# for it. `make test` calls it; arguments go to the last call of cargo.
#
# With the one argument `open-launcher` it builds that launcher alone, for the virtual machine of test-vm.sh, which then builds
# the ordinary one; with `open-launcher-for-benches` the same, optimised, for the figures of `make bench`.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

need_tools
cd "$ROOT"
# keep PROGRAM NAME: under a name of its own, before the ordinary program takes its place.
keep() {
  cp "target/debug/$1" "target/debug/$2.new"
  mv "target/debug/$2.new" "target/debug/$2"
}
if [ "$*" = open-launcher ]; then
  cargo build --locked --quiet -p agentos-launcher --bin agent-os-launch --features agentos-launcher/walls-left-out
  keep agent-os-launch agent-os-launch-open
  exit
fi
# In a directory of its own: nothing with holes ever lies in target/release under the name of what is shipped.
if [ "$*" = open-launcher-for-benches ]; then
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
keep agent-os agent-os-failpoints
keep agent-os-launch agent-os-launch-open
# One call, so that programs and tests share their dependencies.
cargo build --workspace --locked --quiet --bins --tests "$@"
