#!/usr/bin/env bash
# From a clone to a running, audited agent. A second call finds everything in place and changes nothing.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

export AGENT_OS_HOME=${AGENT_OS_HOME:-$ROOT/.agent-os}
PORT=${PORT:-18800}
build_programs
export PATH="$BIN:$PATH"

if [ ! -f "$AGENT_OS_HOME/installation.json" ]; then
    step "making an installation in $AGENT_OS_HOME"
    agent-os -q init >/dev/null
fi
if agent-os status >/dev/null 2>&1; then
    step 'the server is running already (after a new build: make down, then make up)'
else
    step 'starting the server'
    agent-os -q up --detach --port "$PORT" >/dev/null
fi

# The first watch: a file that anybody can edit.
demo="$AGENT_OS_HOME/demo"
mkdir -p "$demo"
[ -f "$demo/notes.txt" ] || printf 'Edit this file, and the Monitor agent tells what changed.\n' >"$demo/notes.txt"
package="$AGENT_OS_HOME/packages-src/monitor"
state=$(package_monitor "$package" "$(grant file '["read", "list"]' "[\"$demo\"]")")
if [ "$state" = new ] || ! agent-os agent show monitor >/dev/null 2>&1; then
    step 'signing and deploying the Monitor agent'
    agent-os -q sign "$package" >/dev/null
    agent-os -q agent deploy "$package" >/dev/null
fi
step "watching $demo/notes.txt, every 5 s"
# Adding a watch that is there already changes nothing.
watch="{\"action\":\"add\",\"name\":\"notes\",\"file\":\"$demo/notes.txt\",\"every_s\":5}"
agent-os -q task submit monitor --input "$watch" --wait >/dev/null

url=$(json_text url <"$AGENT_OS_HOME/server.json")
printf '\nAgentOS is up.\n\n  URL    %s\n' "$url"
if agent-os token list -o json | grep -q '"first-token"'; then
    printf '  Token  was shown by the first make up; another: agent-os token create NAME --scope read\n'
else
    token=$(agent-os -q token create first-token --scope read,tasks --expires-in 30d)
    printf '  Token  %s\n         shown this once; may read and submit tasks; valid for 30 days\n' "$token"
fi
# Another shell has to be told what was not left at its default.
with=''
if [ "$AGENT_OS_HOME" != "$ROOT/.agent-os" ]; then with+="AGENT_OS_HOME=$(printf '%q' "$AGENT_OS_HOME") "; fi
if [ "$PROFILE" != release ]; then with+="PROFILE=$PROFILE "; fi
cat <<NEXT

Next:

  eval "\$(${with}make -s env)"
  echo 'a new line' >> "\$AGENT_OS_HOME/demo/notes.txt"
  agent-os agent notifications monitor      (within 5 seconds)

Stop it with: ${with}make down
NEXT
