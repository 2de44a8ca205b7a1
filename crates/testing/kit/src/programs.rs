//! Where the programs under test lie: beside the test executable's own target directory.

use std::path::PathBuf;

/// A program of this workspace, built by `cargo build --workspace --bins` in the test's profile.
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("the test has a path");
    let profile = own.parent().and_then(|deps| deps.parent()).expect("tests lie in target/PROFILE/deps");
    let path = profile.join(name);
    assert!(path.is_file(), "{} is missing; run: scripts/build-for-tests.sh", path.display());
    path
}

/// An absolute python3 of this machine; what `make test` installs where it is missing.
pub fn python() -> PathBuf {
    let candidates = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&candidates).map(|directory| directory.join("python3")).find(|path| path.is_file());
    let shim = found.expect("python3 is on the PATH (make test installs it)");
    // Version managers put scripts in the way, which need an environment that a worker does not get.
    let asked = std::process::Command::new(&shim).args(["-c", "import sys; print(sys.executable)"]).output();
    asked
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .map(|text| PathBuf::from(text.trim()))
        .filter(|path| path.is_file())
        .unwrap_or(shim)
}
