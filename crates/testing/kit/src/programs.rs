//! Where the programs under test lie: beside the test executable's own target directory.

use std::path::PathBuf;

/// A program of this workspace, built by `cargo build --workspace --bins` in the test's profile.
pub fn program(name: &str) -> PathBuf {
    let path = profile().join(name);
    assert!(path.is_file(), "{} is missing; run: scripts/build-for-tests.sh", path.display());
    path
}

/// Where cargo puts everything, and our scripts what they install.
pub fn target() -> PathBuf {
    profile().parent().expect("a profile lies in target").to_owned()
}

fn profile() -> PathBuf {
    let own = std::env::current_exe().expect("the test has a path");
    own.parent().and_then(|deps| deps.parent()).expect("tests lie in target/PROFILE/deps").to_owned()
}

/// The system's python3, which `make test` installs where it is missing. One of a version manager lies in somebody's home,
/// where no sandbox shows it.
pub fn python() -> PathBuf {
    let places = ["/usr/bin/python3", "/usr/local/bin/python3"].map(PathBuf::from);
    places.into_iter().find(|path| path.is_file()).expect("python3 is in /usr/bin (make test installs it)")
}
