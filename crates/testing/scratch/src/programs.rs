//! Where the programs of Postgres are, and as whom they run: they refuse to run as root.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, Stdio},
};

/// Where distributions put them, besides `PATH`.
const PLACES: &[&str] = &["/usr/lib/postgresql", "/usr/pgsql", "/opt/homebrew/opt/postgresql", "/usr/local/pgsql"];
const NOBODY: u32 = 65_534;

/// A command that runs one of them with nothing attached.
pub(crate) fn command(name: &str) -> Command {
    let mut command = Command::new(directory().join(name));
    command.stdin(Stdio::null()).env_remove("PGHOST").env("LC_ALL", "C").process_group(0);
    if let Some(user) = other_user() {
        command.uid(user).gid(user).current_dir("/");
    }
    command
}

/// The user who runs the server, if it may not be the present one.
pub(crate) fn other_user() -> Option<u32> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let own = users.lines().find_map(|line| line.strip_prefix("postgres:")?.split(':').nth(1)?.parse().ok());
    Some(own.unwrap_or(NOBODY))
}

fn directory() -> PathBuf {
    let mut places: Vec<PathBuf> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    for place in PLACES {
        places.push(PathBuf::from(place).join("bin"));
        let mut versions: Vec<PathBuf> =
            fs::read_dir(place).into_iter().flatten().flatten().map(|entry| entry.path().join("bin")).collect();
        versions.sort();
        places.extend(versions.into_iter().rev());
    }
    // A link elsewhere leads to where all of them are.
    let found = places.into_iter().find_map(|place| place.join("initdb").canonicalize().ok());
    found.and_then(|initdb| initdb.parent().map(PathBuf::from)).unwrap_or_else(|| {
        panic!(
            "this test needs Postgres, and no initdb is installed. Install it (apt-get install postgresql), or leave \
             these tests out: cargo nextest run -E 'not test(postgres)'"
        )
    })
}
