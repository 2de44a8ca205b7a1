#!/usr/bin/env bash
# Prints the exports that let a shell use the installation of `make up`:  eval "$(make -s env)"
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

printf 'export AGENT_OS_HOME=%q\n' "${AGENT_OS_HOME:-$ROOT/.agent-os}"
# shellcheck disable=SC2016
printf 'export PATH=%q:"$PATH"\n' "$BIN"
