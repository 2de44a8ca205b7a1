//! A directory to work in, a user to be, and `agent-os sandbox run` in it.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

use serde_json::Value;
use tempfile::TempDir;

/// Nobody's number, for the runs of a plain user and as the owner of what root shares.
const PLAIN_USER: u32 = 48_113;

/// Who starts the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Starter {
    Root,
    Plain,
}

#[derive(Debug)]
pub struct World {
    pub starter: Starter,
    directory: TempDir,
}

/// Once as root, and once as a plain user.
pub fn each(story: impl Fn(&World)) {
    let both = &[Starter::Root, Starter::Plain][..];
    for starter in if crate::is_without_root() { &both[1..] } else { both } {
        println!("as {starter:?}");
        story(&World::new(*starter));
    }
}

impl World {
    pub fn new(starter: Starter) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // The directory of tests is closed for others.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let world = Self { starter, directory };
        fs::create_dir(world.work()).unwrap();
        world.give(&world.work());
        world
    }

    /// What the command sees as `/workspace`.
    pub fn work(&self) -> PathBuf {
        self.directory.path().canonicalize().unwrap().join("work")
    }

    /// A place beside it that nobody shares unasked.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().canonicalize().unwrap().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.work().join(name);
        fs::write(&path, text).unwrap();
        self.give(&path);
    }

    pub fn read(&self, name: &str) -> String {
        let path = self.work().join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// To the user of the command, where somebody else made it.
    pub fn give(&self, path: &Path) {
        if rustix::process::geteuid().is_root() {
            chown(path, Some(PLAIN_USER), Some(PLAIN_USER)).unwrap();
        }
    }

    /// `agent-os` with these words, as the starter.
    pub fn agent_os(&self, words: &[&str]) -> Command {
        let program = programs().join("agent-os");
        let mut command = match self.starter {
            Starter::Plain if rustix::process::geteuid().is_root() => {
                let mut command = Command::new("setpriv");
                let id = PLAIN_USER.to_string();
                command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]).arg(program);
                command
            }
            _ => Command::new(program),
        };
        command.args(words).current_dir(self.directory.path()).env_clear().stdin(Stdio::null());
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", self.directory.path());
        command
    }

    /// A command inside, with options of `sandbox run` before it, in the directory [`World::work`].
    pub fn command(&self, options: &[&str], command: &[&str]) -> Command {
        let work = self.work();
        let words = [&["sandbox", "run", "--rw", work.to_str().unwrap()], options, &["--"], command].concat();
        self.agent_os(&words)
    }

    /// A script of the shell inside; fails the test unless it succeeds, and returns what it printed.
    pub fn script(&self, options: &[&str], text: &str) -> String {
        let output = self.command(options, &["sh", "-euc", text]).output().unwrap();
        assert!(output.status.success(), "{:?}: {text}\n{}", self.starter, told(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// A command with a report, and what the report says.
    pub fn reported(&self, options: &[&str], command: &[&str]) -> (Output, Value) {
        let file = self.work().join("report.json");
        let options = [options, &["--report", file.to_str().unwrap()]].concat();
        let output = self.command(&options, command).output().unwrap();
        let text = fs::read(&file).unwrap_or_else(|error| panic!("no report: {error}\n{}", told(&output)));
        fs::remove_file(&file).unwrap();
        (output, serde_json::from_slice(&text).unwrap())
    }
}

pub fn told(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\nout: {}\nerr: {}", output.status, text(&output.stdout), text(&output.stderr))
}

/// Fails with what to do; `scripts/test.sh` installs what these stories need, or leaves them out and counts them.
pub fn need(program: &str, package: &str) {
    let places = ["/usr/local/bin", "/usr/bin", "/bin"];
    let is_there = places.iter().any(|place| Path::new(place).join(program).exists());
    assert!(is_there, "{program} is missing; install it: apt-get install {package}");
}

/// The programs of this workspace, in a place that a plain user can reach.
fn programs() -> &'static Path {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    PLACE.get_or_init(|| {
        let own = std::env::current_exe().unwrap();
        let built = own.parent().and_then(Path::parent).unwrap().to_owned();
        for name in PROGRAMS {
            assert!(built.join(name).is_file(), "{name} is missing; run: scripts/build-for-tests.sh");
        }
        if is_open(&built) { built } else { copied(&built) }
    })
}

const PROGRAMS: [&str; 3] = ["agent-os", "agent-os-launch", "agent-os-egress"];

/// Everybody may enter each directory on the way.
fn is_open(path: &Path) -> bool {
    path.ancestors().all(|part| fs::metadata(part).is_ok_and(|found| found.permissions().mode() & 0o005 == 0o005))
}

/// Left in the directory of temporary files under one name for each build, so that runs after each other do not fill it.
fn copied(built: &Path) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("agentos-wall-programs-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    for name in PROGRAMS {
        fs::hard_link(built.join(name), directory.join(name))
            .or_else(|_| fs::copy(built.join(name), directory.join(name)).map(drop))
            .unwrap();
    }
    directory
}
