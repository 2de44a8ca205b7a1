#!/usr/bin/env bash
# A story in a directory of its own: the Monitor agent watches a served page and a file, both change, worker and server are
# killed, and the work goes on. Removes everything at the end; ends only processes that it started.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

unset AGENT_OS_URL AGENT_OS_TOKEN
build_programs
export PATH="$BIN:$PATH"
work=$(mktemp -d)
export AGENT_OS_HOME="$work/data"
page_server=''

clean_up() {
    agent-os down >/dev/null 2>&1 || true
    if [ -n "$page_server" ]; then kill "$page_server" 2>/dev/null || true; fi
    rm -rf "$work"
}
trap clean_up EXIT

# Notifications of the Monitor so far that mention a text.
seen() { agent-os agent notifications monitor -o jsonl | grep -c "$1" || true; }
at_least() { [ "$(seen "$1")" -ge "$2" ]; }
wait_for() { until_true 30 "notification about $1" at_least "$1" "$2"; }
newest_diff() {
    agent-os -q task submit monitor --input "{\"action\":\"history\",\"name\":\"$1\",\"limit\":1}" --wait -o json |
        sed -n 's/.*"diff": *"\(.*\)".*/\1/p' | head -n 1 | sed 's/\\n/\n/g; s/\\"/"/g; s/^/    /'
}
ready() { agent-os agent show monitor -o json 2>/dev/null | grep -qE '"state": *"(ready|running)"'; }

step 'a file, and a page on a server of its own'
mkdir -p "$work/watched" "$work/site"
printf 'alpha\nbeta\n' >"$work/watched/notes.txt"
printf '<html><body><h1>Prices</h1><p>Tea: 3 EUR</p></body></html>\n' >"$work/site/index.html"
# This page server dates its pages to the second. One that was written just now could change within that second.
touch -d '1 minute ago' "$work/site/index.html"
if command -v python3 >/dev/null; then
    python3 -u -m http.server 0 --bind 127.0.0.1 --directory "$work/site" >"$work/site.log" 2>&1 &
    page_server=$!
    until_true 10 'page server' grep -q 'port' "$work/site.log"
    port=$(sed -n 's/.* port \([0-9]*\).*/\1/p' "$work/site.log" | head -n 1)
    say "page: http://127.0.0.1:$port/"
else
    port=''
    say 'skipped: the page, because python3 is not installed; the file is enough to see the rest'
fi

step 'an installation in a directory of its own'
agent-os -q init >/dev/null
if [ -n "$port" ]; then
    # Private addresses are refused. Only the operator can open one, and only as HOST:PORT; a manifest cannot.
    printf '\n[dialer]\nprivate_exceptions = ["127.0.0.1:%s"]\n' "$port" >>"$AGENT_OS_HOME/agent-os.toml"
fi
agent-os -q up --detach --port 0 >/dev/null

step 'the Monitor agent, signed, with grants for exactly these two'
grants=$(grant file '["read", "list"]' "[\"$work/watched\"]")
if [ -n "$port" ]; then grants+=$(printf '\n' && grant net '["fetch"]' "[\"http://127.0.0.1:$port/*\"]"); fi
package_monitor "$work/package" "$grants" >/dev/null
agent-os -q sign "$work/package" >/dev/null
agent-os -q agent deploy "$work/package" >/dev/null
submit() { agent-os -q task submit monitor --input "$1" --wait >/dev/null; }
submit "{\"action\":\"add\",\"name\":\"notes\",\"file\":\"$work/watched/notes.txt\",\"every_s\":1}"
if [ -n "$port" ]; then submit "{\"action\":\"add\",\"name\":\"prices\",\"url\":\"http://127.0.0.1:$port/\",\"every_s\":1}"; fi
agent-os schedule list

step 'both change'
printf 'alpha\nbeta, changed\ngamma\n' >"$work/watched/notes.txt"
printf '<html><body><h1>Prices</h1><p>Tea: 4 EUR</p></body></html>\n' >"$work/site/index.html"
wait_for '"notes"' 1
say 'the file:' && newest_diff notes >&2
if [ -n "$port" ]; then
    wait_for '"prices"' 1
    say 'the page:' && newest_diff prices >&2
fi
agent-os agent notifications monitor

step 'what it tried and was not granted'
agent-os -q task submit monitor --input '{"action":"add","name":"shadow","file":"/etc/shadow","every_s":60}' --wait >/dev/null || true
agent-os audit query --actor agent:monitor --decision denied --limit 3
submit '{"action":"remove","name":"shadow"}'

step 'kill -9 of the worker'
worker=$(agent-os agent show monitor -o json | json_number pid)
kill -9 "$worker"
printf 'alpha\nafter the worker died\n' >"$work/watched/notes.txt"
wait_for '"notes"' 2
until_true 30 'ready worker' ready
say "worker $worker is gone, $(agent-os agent show monitor -o json | json_number pid) goes on; the change was noticed:"
newest_diff notes >&2

step 'kill -9 of the server'
server=$(json_number pid <"$AGENT_OS_HOME/server.json")
kill -9 "$server"
printf 'alpha\nwhile the server was down\n' >"$work/watched/notes.txt"
agent-os -q up --detach --port 0 >/dev/null
wait_for '"notes"' 3
say "server $server is gone, $(json_number pid <"$AGENT_OS_HOME/server.json") goes on; the change was noticed:"
newest_diff notes >&2
[ "$(seen '"notes"')" -eq 3 ] || die "$(seen '"notes"') alerts for three changes of the file"
say 'three changes of the file, three alerts: none twice, none missed'

step 'the audit trail, and its proof'
agent-os audit query --action file.read --limit 4
agent-os audit verify
agent-os-verify --help >/dev/null && say 'the same check without AgentOS: agent-os-verify, see the documentation'
step 'done'
