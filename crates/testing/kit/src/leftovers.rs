//! What a server that was killed cannot take away itself. The next start of the same installation does; a test that ends has
//! no next start.

use std::{
    fs,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::mount::{UnmountFlags, unmount};

/// For processes that the kernel is ending.
const PATIENCE: Duration = Duration::from_secs(10);

/// Directories of the groups that the server with this process number has made and that still exist.
pub fn groups_of(server: u32) -> Vec<PathBuf> {
    let mark = format!(".{server}.");
    let is_of_server = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("agentos.") && name.contains(&mark)
    };
    parents().iter().flat_map(|parent| below(parent)).filter(is_of_server).collect()
}

/// Places below a directory at which something is mounted, as this process sees them.
pub fn mounts_below(directory: &Path) -> Vec<PathBuf> {
    let Ok(directory) = fs::canonicalize(directory) else { return Vec::new() };
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let places = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    let mut found: Vec<_> = places.filter(|place| place.starts_with(&directory)).collect();
    found.sort();
    found
}

/// After the end of all its servers.
pub(crate) fn remove(home: &Path, servers: &[u32]) {
    let deadline = Instant::now() + PATIENCE;
    for server in servers {
        while groups_of(*server).iter().any(|group| !remove_group(group)) && Instant::now() < deadline {
            sleep(Duration::from_millis(10));
        }
    }
    for place in mounts_below(home).into_iter().rev() {
        // What stays is seen by the next look at the machine; a test cannot do more.
        let _ = unmount(&place, UnmountFlags::DETACH);
    }
}

/// From the inside out; a group that still has processes stays.
fn remove_group(group: &Path) -> bool {
    below(group).iter().all(|inner| remove_group(inner)) && fs::remove_dir(group).is_ok()
}

fn below(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

/// Where a server that this process starts makes its groups: below its own place in each tree.
fn parents() -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let trees: Vec<PathBuf> = std::iter::once(root.to_owned()).chain(below(root)).collect();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut places: Vec<PathBuf> = own
        .lines()
        .filter_map(|line| line.splitn(3, ':').nth(2))
        .flat_map(|place| trees.iter().map(move |tree| tree.join(place.trim_start_matches('/'))))
        .chain(trees.iter().cloned())
        .collect();
    places.sort();
    places.dedup();
    places
}
