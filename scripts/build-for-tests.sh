#!/usr/bin/env bash
# Builds what the tests need, into target/debug: the programs, the tests, and agent-os-failpoints, which is agent-os with
# the instants at which a test lets it die. `make test` calls it; arguments go to the last call of cargo.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

need_tools
cd "$ROOT"
# First the armed program, because it is built under the name of the ordinary one. The example gives this call the features
# that the tests' dependencies have, so that nothing is built a second time but the crates with points.
cargo build --workspace --locked --quiet --bin agent-os --example failpoints --features agent-os/failpoints
cp target/debug/agent-os target/debug/agent-os-failpoints.new
mv target/debug/agent-os-failpoints.new target/debug/agent-os-failpoints
# One call, so that programs and tests share their dependencies.
cargo build --workspace --locked --quiet --bins --tests "$@"
