#!/usr/bin/env bash
# Installs the official OpenAI and Anthropic clients for Python and JavaScript, in the versions that
# crates/testing/kit/sdks/{requirements.txt,package-lock.json} name, into target/sdks: no script of a package is run, and nothing
# is built. Does nothing where they are. Fails with a reason where it cannot.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

from="$ROOT/crates/testing/kit/sdks"
into="${CARGO_TARGET_DIR:-$ROOT/target}/sdks"
python=/usr/bin/python3
[ -x "$python" ] || die "$python is not installed" 'sudo apt-get install python3 python3-venv'
# Agents have this PATH, and the tests run the same programs inside and outside of sandboxes.
node=$(PATH=/usr/local/bin:/usr/bin:/bin command -v node) || die 'node is not installed' 'sudo apt-get install nodejs npm'
command -v npm >/dev/null || die 'npm is not installed' 'sudo apt-get install npm'
# What is compiled in a wheel belongs to one version of Python.
known=$(cat "$from/requirements.txt" "$from/package-lock.json" <("$python" --version) | sha256sum | cut -d ' ' -f 1)
if [ "$(cat "$into/known" 2>/dev/null)" = "$known" ]; then exit; fi

step "installing the official clients of OpenAI and Anthropic into ${into#"$ROOT/"}"
rm -rf "$into"
mkdir -p "$into/javascript"
"$python" -m venv "$into/pip" >&2 || die 'python3 cannot make an environment' 'sudo apt-get install python3-venv'
"$into/pip/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --retries 2 \
    --target "$into/python" --requirement "$from/requirements.txt" >&2 || die 'pip cannot install the clients'
rm -rf "$into/pip"
cp "$from/package.json" "$from/package-lock.json" "$into/javascript/"
(cd "$into/javascript" && npm ci --ignore-scripts --no-audit --no-fund --loglevel error >&2) || die 'npm cannot install the clients'
"$node" --version >/dev/null
printf '%s\n' "$known" >"$into/known"
