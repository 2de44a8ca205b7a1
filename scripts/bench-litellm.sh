#!/usr/bin/env bash
# Installs LiteLLM beside the builds, for the group `models` of the benches. Wheels only, so that nothing of it runs while it is
# installed; the release is pinned because two later ones were trojaned. The benches give it an empty environment, no key and
# the mock on loopback as its only provider.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

RELEASE=1.82.6
PEER="$ROOT/target/peers/litellm"

need python3 python3-venv 'LiteLLM is written in Python'
if [ -x "$PEER/bin/litellm" ] && "$PEER/bin/pip" show litellm 2>/dev/null | grep -q "^Version: $RELEASE$"; then
    say "LiteLLM $RELEASE is installed already"
    exit 0
fi
step "installing LiteLLM $RELEASE into $PEER"
mkdir -p "$(dirname "$PEER")"
python3 -m venv --clear "$PEER"
"$PEER/bin/pip" install --quiet --only-binary :all: "litellm[proxy]==$RELEASE"
