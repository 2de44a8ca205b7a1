//! What commands leave in the kernel: processes by a word that nobody else has among his arguments, everybody else in the
//! namespaces of those, and the loop devices of an installation.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    hash::{BuildHasher, RandomState},
    path::{Path, PathBuf},
};

use agentos_kit::eventually;

use crate::chaos::processes::{self, Process};

/// A word for the arguments of what a test starts.
pub fn marker() -> String {
    format!("marked-{}-{:016x}", std::process::id(), RandomState::new().hash_one(0))
}

/// Processes that must not outlive something.
pub struct Traces {
    marker: String,
    marked: BTreeSet<Process>,
    /// These, and who was beside them.
    processes: BTreeSet<Process>,
    namespaces: BTreeSet<PathBuf>,
    /// Held open, so that no other namespace gets the number of one of them.
    _held: Vec<File>,
}

impl Traces {
    /// Waits for at least so many that have the marker, in so many sandboxes, and takes in who is beside them there.
    pub async fn appeared(marker: &str, count: usize, sandboxes: usize) -> Self {
        let (marked, namespaces, held) = eventually("the marked processes", || async {
            let seen = processes::with_argument(marker);
            // Opened first: what is read then is what is held.
            let held: Vec<File> = seen.iter().filter_map(|seen| processes::namespace_of(seen.process.pid)).collect();
            let namespaces: BTreeSet<_> = held.iter().map(processes::name_of).collect();
            let are_all = held.len() >= count && namespaces.len() == sandboxes;
            if are_all { Ok((seen, namespaces, held)) } else { Err((seen, namespaces)) }
        })
        .await;
        assert!(!namespaces.contains(&processes::namespace(std::process::id()).unwrap()), "they are in sandboxes");
        let beside = processes::in_namespaces(&namespaces);
        let processes = marked.iter().chain(&beside).map(|seen| seen.process).collect();
        let marked = marked.iter().map(|seen| seen.process).collect();
        Self { marker: marker.to_owned(), marked, processes, namespaces, _held: held }
    }

    pub fn all_live(&self) -> bool {
        self.marked.iter().all(|process| process.lives())
    }

    /// None of them is left, nobody else is in their namespaces, and nobody with the marker came after them.
    pub async fn are_gone(&self) {
        eventually("the end of every process of the sandboxes", || async {
            let left: Vec<_> = self.processes.iter().filter(|process| process.lives()).collect();
            let beside = processes::in_namespaces(&self.namespaces);
            if left.is_empty() && beside.is_empty() { Ok(()) } else { Err(format!("{left:?} {beside:?}")) }
        })
        .await;
    }

    /// The same, and nothing with the marker runs anywhere.
    pub async fn are_gone_for_good(&self) {
        self.are_gone().await;
        eventually("no marked process", || async {
            let left = processes::with_argument(&self.marker);
            if left.is_empty() { Ok(()) } else { Err(left) }
        })
        .await;
    }
}

/// Loop devices whose file lies below a directory.
pub fn loop_devices(directory: &Path) -> BTreeSet<String> {
    let Ok(directory) = fs::canonicalize(directory) else { return BTreeSet::new() };
    let backing = |device: &Path| fs::read_to_string(device.join("loop/backing_file")).unwrap_or_default();
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten().map(|entry| entry.path());
    let own = devices.filter(|device| Path::new(backing(device).trim()).starts_with(&directory));
    own.filter_map(|device| Some(device.file_name()?.to_string_lossy().into_owned())).collect()
}
