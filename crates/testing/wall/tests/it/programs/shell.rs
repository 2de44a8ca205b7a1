//! Shells: pipelines, job control by the shell itself, temporary files, here-documents, files with blanks.

use crate::programs::world::{each, need};

#[test]
fn pipelines_and_jobs_of_bash() {
    need("bash", "bash");
    each(|world| {
        world.write("words with blanks.txt", "pear\napple\npear\nfig\n");
        world.write(
            "story.sh",
            r#"#!/bin/bash
set -euo pipefail
sort 'words with blanks.txt' | uniq -c | sort -rn | head -1 | awk '{print $1, $2}' > most
seq 1 200 | xargs -n 7 -P 4 echo | wc -l > groups
cat <(echo one) <(echo two) | tr '\n' ' ' > joined
sleep 30 & job=$!
kill -TERM $job; wait $job && exit 9 || [ $? -eq 143 ]
( trap 'echo caught > caught' USR1; kill -USR1 $BASHPID; )
if false | true; then exit 8; fi
rm -f pipe; mkfifo pipe; (echo through > pipe) & read -r line < pipe; wait; echo "$line" > fifo
tmp=$(mktemp); echo 'echo no' > "$tmp"; chmod +x "$tmp"
"$tmp" 2>/dev/null && exit 7 || true
find . -name '*.sh' -print0 | xargs -0 grep -l pipefail > found
python=$((2**10)); printf '%s\n' "$python" | tee power | sed 's/0/o/' > replaced
"#,
        );
        world.script(&[], "bash story.sh; chmod +x story.sh; ./story.sh");
        for (name, expected) in [
            ("most", "2 pear\n"),
            ("groups", "29\n"),
            ("joined", "one two "),
            ("caught", "caught\n"),
            ("fifo", "through\n"),
            ("found", "./story.sh\n"),
            ("replaced", "1o24\n"),
        ] {
            assert_eq!(world.read(name), expected, "{name}");
        }
    });
}

#[test]
fn a_shell_finds_itself_at_home() {
    each(|world| {
        let seen = world.script(
            &[],
            "echo $HOME $PWD $TMPDIR $USER; id -un; id -u; hostname 2>/dev/null || cat /etc/hostname; getent passwd agent;
            ls -d /bin /etc /usr /tmp /workspace /proc/self >/dev/null; date +%Z >/dev/null; ls /home /root 2>&1 | wc -l",
        );
        let expected =
            "/workspace /workspace /tmp agent\nagent\n1000\nsandbox\nagent:x:1000:1000:agent:/workspace:/bin/sh\n2\n";
        assert_eq!(seen, expected);
    });
}
