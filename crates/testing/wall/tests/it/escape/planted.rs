//! What an agent leaves behind for others: in its workspace, and as processes.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
    time::Duration,
};

use agentos_limits::quota::{QuotaChoice, QuotaDriver, WorkspaceOptions, Workspaces};
use agentos_protocol::sandbox::{End, Mount, Profile};
use agentos_sandbox::{Backend, SandboxOptions, Sandboxes};
use agentos_types::Code;

use super::{
    ground::{Ground, write_for_all},
    sandbox::{Launcher, launcher_program, launcher_with_holes, order},
};

/// Everything that has been put into shared directories to catch whoever looks at them.
const PLANT: &str = r#"
ln -s "$SECRET" link; ln -s / root; ln -s .. up; ln -s loop loop
mkfifo fifo; mknod device c 1 1 2>&1; mknod disk b 8 0 2>&1; ln /usr/bin/env hard 2>&1
truncate -s 1T sparse; truncate -s 8191P sparse 2>&1
mkdir -p .git/hooks .vscode
for name in .git/hooks/post-checkout .git/hooks/fsmonitor .envrc .bashrc .profile Makefile; do
  printf '#!/bin/sh\ntouch "%s"\n' "$MARKER" > "$name"; chmod 755 "$name"
done
printf '[core]\n\tfsmonitor = .git/hooks/fsmonitor\n' > .git/config
cp /usr/bin/env raised; chmod 6755 raised
touch "$(printf 'a\033]0;title\007\nb')" A a "$(printf 'caf\303\251')" "$(printf 'cafe\314\201')" -- -rf
number=0; while [ $number -lt 300 ]; do mkdir deep && cd deep || break; number=$((number + 1)); done
echo planted
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_planted_in_a_workspace_catches_nobody() {
    // Who the server is, because the workspaces are its own.
    let launcher = Launcher::all()[0];
    let ground = Ground::new(launcher.user());
    let root = tempfile::tempdir_in(ground.path("")).unwrap();
    let choice = QuotaChoice::Only(QuotaDriver::Watchdog);
    let options = WorkspaceOptions { root: root.path().to_owned(), choice, is_strict: false };
    let workspaces = Workspaces::open(options);
    let workspace = workspaces.prepare("victim", 64 << 20, Some(launcher.user())).unwrap();
    let marker = ground.path("marker");
    let mut order = order(&ground, launcher, ["/bin/sh", "-c", PLANT].map(str::to_owned).to_vec());
    order.mounts.retain(|mount| !matches!(mount, Mount::Tmpfs { target, .. } if target == "/workspace"));
    order.mounts.push(workspace.mount());
    order.environment.insert("SECRET".into(), ground.facts.secret_path.clone());
    order.environment.insert("MARKER".into(), marker.display().to_string());
    order.limits.file_bytes = u64::MAX >> 1;
    let secret = fs::metadata(&ground.facts.secret_path).unwrap();
    assert_eq!(run(&ground, launcher, order).await, End::Exited(0));
    let path = workspace.path().unwrap();

    // What cannot be measured counts as too much, and the measuring ends.
    let refused = workspace.check(&[]).unwrap_err();
    assert_eq!(refused.code, Code::WORKSPACE_LIMIT, "{refused}");
    fs::remove_dir_all(path.join("deep")).unwrap();
    let usage = workspace.check(&[]).unwrap();
    assert!(usage.bytes < 4 << 20, "holes and what links lead to do not count: {usage:?}");

    let entries: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap()).collect();
    assert!(entries.len() > 15, "{entries:?}");
    for entry in &entries {
        let found = entry.metadata().unwrap();
        let kind = found.file_type();
        assert!(!kind.is_block_device() && !kind.is_char_device(), "{entry:?}");
        assert_eq!(found.uid(), launcher.user(), "a setuid program is its maker's own: {entry:?}");
    }
    for name in ["A", "a", "caf\u{e9}", "cafe\u{301}"] {
        assert!(path.join(name).exists(), "two names that look alike are two files: {name}");
    }

    // Looked at, given to its owner and measured again: nothing in it is run, and no link is followed.
    workspaces.prepare("victim", 64 << 20, Some(launcher.user())).unwrap();
    workspace.check(&[]).unwrap();
    assert!(!marker.exists(), "something that was planted has run");
    let after = fs::metadata(&ground.facts.secret_path).unwrap();
    assert_eq!((secret.uid(), secret.mode(), secret.len()), (after.uid(), after.mode(), after.len()));
}

async fn run(ground: &Ground, launcher: Launcher, order: agentos_protocol::sandbox::SandboxOrder) -> End {
    let program = launcher_program(ground, launcher, &[]);
    let sandboxes = Sandboxes::open(SandboxOptions { launcher: program, backend: Backend::Native }).unwrap();
    let mut order = order;
    order.descriptors.clear();
    let mut running = sandboxes.spawn(Profile::Agent, order, Vec::new()).await.unwrap();
    running.ended().await.end
}

/// A double fork, a session of its own and closed descriptors have outlived many a process group.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_outlives_its_sandbox() {
    for launcher in Launcher::all() {
        let ground = Ground::new(launcher.user());
        // A length that no other process sleeps, to find it by.
        let name = format!("4{:07}.{}", std::process::id(), ground.facts.tcp_port);
        let script = format!("(setsid sleep {name} <&- >&- 2>&- &) ; (trap '' TERM HUP; exec sleep {name}) & exit 3");
        let order = order(&ground, launcher, vec!["/bin/sh".into(), "-c".into(), script]);
        assert_eq!(run(&ground, launcher, order).await, End::Exited(3), "{launcher:?}");
        let gone = async {
            while is_running(&name) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), gone)
            .await
            .unwrap_or_else(|_| panic!("{launcher:?}: it lives on"));
    }
}

fn is_running(argument: &str) -> bool {
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let words = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    words.into_iter().any(|words| words.split(|byte| *byte == 0).any(|word| word == argument.as_bytes()))
}

/// What is shipped takes no order to leave a wall out, and does not even know the word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_launcher_that_is_shipped_leaves_no_wall_out() {
    let ground = Ground::new(Launcher::all()[0].user());
    let text_of = |program: &str| String::from_utf8_lossy(&fs::read(ground.program(program)).unwrap()).into_owned();
    assert!(text_of("agent-os-launch-open").contains("--without"), "the program for tests leaves nothing out");
    assert!(!text_of("agent-os-launch").contains("--without"), "the program that is shipped knows how to");
    let script = ground.path("launcher");
    let line = format!("#!/bin/sh\nexec {} \"$@\" --without seccomp\n", ground.program("agent-os-launch").display());
    write_for_all(Path::new(&script), &line);
    let sandboxes = Sandboxes::open(SandboxOptions { launcher: script, backend: Backend::Native }).unwrap();
    let refused = sandboxes.layers(Profile::Agent).await.unwrap_err();
    assert!(refused.message.contains("launcher"), "{refused}");
}

/// What the figures of a spawn lean on: the launcher for tests can leave the whole tree out, and then nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_tree_the_machines_files_are_there_and_the_other_walls_stand() {
    const LOOK: &str = "test -e \"$MARKER\" && [ \"$(hostname)\" = agent ] && [ $$ -lt 100 ] \
                        && grep -q '^Seccomp:.*2$' /proc/thread-self/status && ! unshare --user true 2>&1";
    for launcher in Launcher::all() {
        let ground = Ground::new(launcher.user());
        let marker = ground.path("shared").join("marker");
        write_for_all(&marker, "");
        for (holes, expected) in [("tree,landlock", End::Exited(0)), ("landlock", End::Exited(1))] {
            let mut order = order(&ground, launcher, ["/bin/sh", "-c", LOOK].map(str::to_owned).to_vec());
            order.directory = "/".into();
            order.environment.insert("MARKER".into(), marker.display().to_string());
            let program = launcher_with_holes(&ground, launcher, &[holes]);
            let sandboxes = Sandboxes::open(SandboxOptions { launcher: program, backend: Backend::Native }).unwrap();
            order.descriptors.clear();
            let mut running = sandboxes.spawn(Profile::Agent, order, Vec::new()).await.unwrap();
            assert_eq!(running.ended().await.end, expected, "{launcher:?} without {holes}");
        }
    }
}
