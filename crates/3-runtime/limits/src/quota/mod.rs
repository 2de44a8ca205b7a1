//! The bound of what an agent may keep on the disk: its workspace, by the best means that this machine has.
//!
//! ```text
//! project    a quota of the file system on ROOT/NAME        root, ext4 or xfs mounted with prjquota
//! image      an ext4 image of that size on ROOT/NAME        root, loop devices
//! tmpfs      memory inside of the sandbox                   always; nothing lasts
//! watchdog   ROOT/NAME, measured; who exceeds is stopped    always; reported as degraded
//! ```
//!
//! Calls block on the disk and on programs of the system: not for async threads. Data stay where they are known to be when
//! the driver changes: they are copied once, and only then the old place is removed. Not here: RLIMIT_FSIZE, which the
//! launcher sets beside every driver, and what the file service of the tools writes outside of workspaces.

mod blank;
mod choice;
mod copy;
mod held;
mod image;
mod loops;
mod mounts;
mod place;
mod programs;
mod project;
#[cfg(test)]
mod tests;
mod walk;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use agentos_protocol::sandbox::Mount;
use agentos_types::{Code, Fault, Result};
use rustix::fs::statvfs;

use blank::Blanks;
pub use choice::{Examined, QuotaChoice, QuotaDriver};
use choice::{Facts, choose};
use copy::Cap;
use image::Images;
use loops::Loops;
use place::{Home, Places, check_name, make_private, unavailable};
use programs::Programs;
use project::Projects;

/// Where every workspace is inside of a sandbox.
pub const WORKSPACE_TARGET: &str = "/workspace";
/// A file costs the kernel memory and the disk a block however small it is: one for this many bytes of the limit.
const BYTES_A_FILE: u64 = 16 << 10;
const FILES_MIN: u64 = 1024;
/// Threads that unmount at the end.
const UNMOUNTERS: usize = 8;

/// How to open the workspaces of one installation.
#[derive(Clone, Debug)]
pub struct WorkspaceOptions {
    /// Directory of all workspaces.
    pub root: PathBuf,
    pub choice: QuotaChoice,
    /// Whether a limit that is not held exactly is as good as none.
    pub is_strict: bool,
}

/// All workspaces of this server. A cheap clone; with the last one, nothing of it stays mounted.
#[derive(Clone, Debug)]
pub struct Workspaces(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    examined: Vec<Examined>,
    driver: QuotaDriver,
    programs: Programs,
    /// Without it every workspace is refused, with the reason that is known since the start.
    opened: Result<Opened>,
}

#[derive(Debug)]
struct Opened {
    places: Places,
    /// Held to the end: no second server mounts, copies or sweeps here.
    _lock: File,
    /// Workspaces that were mounted, each with the lock of who prepares or releases it. One entry an agent.
    mounted: Mutex<BTreeMap<String, Arc<Mutex<()>>>>,
    /// The server ends: nothing is mounted any more.
    is_closed: AtomicBool,
    /// Numbers of projects are given out one by one.
    numbers: Mutex<()>,
    loops: Loops,
    blanks: Blanks,
}

/// What the drivers would do at `root`, without touching anything there.
pub fn examine(root: &Path) -> Vec<Examined> {
    Facts::gather(root, &Programs::of_the_system()).examine()
}

impl Workspaces {
    /// Takes the best driver of this machine and removes what a dead server left at `root`. What does not succeed is told by
    /// [`Workspaces::prepare`]: a server without agents needs no workspaces.
    pub fn probe(root: &Path) -> Self {
        Self::open(WorkspaceOptions { root: root.to_owned(), choice: QuotaChoice::Automatic, is_strict: false })
    }

    pub fn open(options: WorkspaceOptions) -> Self {
        Self::with(&options, Programs::of_the_system(), |programs| {
            let places = Places::open(&options.root)?;
            let lock = places.lock()?;
            let opened = Opened {
                places,
                _lock: lock,
                mounted: Mutex::default(),
                is_closed: AtomicBool::new(false),
                numbers: Mutex::default(),
                loops: Loops::default(),
                blanks: Blanks::default(),
            };
            opened.images(programs).sweep();
            Ok(opened)
        })
    }

    /// What [`Workspaces::open`] would choose, without touching anything: nothing can be prepared with it.
    pub fn survey(options: &WorkspaceOptions) -> Self {
        Self::with(options, Programs::of_the_system(), |_| {
            Err(Fault::internal("workspaces that were only surveyed are not for use"))
        })
    }

    fn with(options: &WorkspaceOptions, programs: Programs, open: impl FnOnce(&Programs) -> Result<Opened>) -> Self {
        let examined = Facts::gather(&options.root, &programs).examine();
        let chosen = choose(&examined, options.choice, options.is_strict);
        // One that was asked for and cannot be had is still the one that is named.
        let driver = match (&chosen, options.choice) {
            (Ok(driver), _) => *driver,
            (Err(_), QuotaChoice::Only(driver)) => driver,
            (Err(_), QuotaChoice::Automatic) => QuotaDriver::Watchdog,
        };
        let opened = chosen.and_then(|_| open(&programs));
        Self(Arc::new(Inner { examined, driver, programs, opened }))
    }

    /// The one that is active.
    pub fn driver(&self) -> QuotaDriver {
        self.0.driver
    }

    /// All of them, and why the better ones are not active.
    pub fn examined(&self) -> &[Examined] {
        &self.0.examined
    }

    /// The workspace of this name, with the data that it had, owned by `owner`, or by the server's own user. Asked for
    /// again, it is the same, with the new bound.
    pub fn prepare(&self, name: &str, bytes: u64, owner: Option<u32>) -> Result<Workspace> {
        check_name(name)?;
        let opened = self.0.opened.as_ref().map_err(Clone::clone)?;
        let own = opened.own(name);
        let _busy = own.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: whoever closes takes it after this.
        if opened.is_closed.load(Ordering::SeqCst) {
            return Err(Fault::new(Code::SHUTTING_DOWN, "the server is shutting down; workspaces are closed"));
        }
        let owner = owner.unwrap_or_else(|| rustix::process::geteuid().as_raw());
        let bounds = Bounds::new(bytes);
        let (places, programs) = (&opened.places, &self.0.programs);
        match self.0.driver {
            QuotaDriver::Image => opened.images(programs).prepare(name, bytes, owner)?,
            QuotaDriver::Project => {
                self.at_home(opened, name, bounds, owner)?;
                let _one = opened.numbers.lock().unwrap_or_else(PoisonError::into_inner);
                Projects { places, programs }.bound(name, bounds, owner)?;
            }
            QuotaDriver::Watchdog => self.at_home(opened, name, bounds, owner)?,
            QuotaDriver::Tmpfs => {}
        }
        Ok(Workspace { all: self.clone(), driver: self.0.driver, path: places.workspace(name), bounds })
    }

    /// Unmounts the workspace of an agent that is gone for longer. Its data stay.
    pub fn release(&self, name: &str) -> Result<()> {
        check_name(name)?;
        let opened = self.0.opened.as_ref().map_err(Clone::clone)?;
        let own = opened.own(name);
        let _busy = own.lock().unwrap_or_else(PoisonError::into_inner);
        opened.images(&self.0.programs).release(name)
    }

    /// Unmounts all of them now, for a server that ends; none is prepared after it. The last handle does the same.
    pub fn close(&self) {
        self.0.release_all();
    }

    /// A plain directory with the data in it, wherever they were.
    fn at_home(&self, opened: &Opened, name: &str, bounds: Bounds, owner: u32) -> Result<()> {
        let path = opened.places.workspace(name);
        if opened.places.home(name)? == Home::Image {
            if !self.0.examined.iter().any(|row| row.driver == QuotaDriver::Image && row.is_usable) {
                return Err(Fault::new(
                    Code::WORKSPACE_UNAVAILABLE,
                    format!("the files of {name} are in a disk image, which cannot be mounted here"),
                )
                .hint("start the server as root once with sandbox.workspace = watchdog, which copies them into a directory")
                .detail(opened.places.image(name).display()));
            }
            let images = opened.images(&self.0.programs);
            images.move_out(name, Cap { bytes: bounds.bytes, files: bounds.files }, owner)?;
        }
        make_private(&path).map_err(|source| unavailable(&path, &source))?;
        walk::give(&path, owner, u64::MAX)
    }
}

impl Opened {
    fn images<'o>(&'o self, programs: &'o Programs) -> Images<'o> {
        Images { places: &self.places, programs, loops: &self.loops, blanks: &self.blanks }
    }

    /// The lock of one workspace, which from now on is looked at in the end.
    fn own(&self, name: &str) -> Arc<Mutex<()>> {
        let mut mounted = self.mounted.lock().unwrap_or_else(PoisonError::into_inner);
        mounted.entry(name.to_owned()).or_default().clone()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.release_all();
    }
}

impl Inner {
    /// An unmount waits for the disk, and a server may have a thousand.
    fn release_all(&self) {
        let Ok(opened) = &self.opened else { return };
        // Before the names are read: who comes later sees it, who came before is among them and has its lock waited for.
        opened.is_closed.store(true, Ordering::SeqCst);
        let mounted: Vec<(String, Arc<Mutex<()>>)> = {
            let mounted = opened.mounted.lock().unwrap_or_else(PoisonError::into_inner);
            mounted.iter().map(|(name, own)| (name.clone(), own.clone())).collect()
        };
        let images = opened.images(&self.programs);
        std::thread::scope(|threads| {
            for part in mounted.chunks(mounted.len().div_ceil(UNMOUNTERS).max(1)) {
                threads.spawn(|| part.iter().for_each(|(name, own)| release_at_end(&images, name, own)));
            }
        });
    }
}

fn release_at_end(images: &Images<'_>, name: &str, own: &Mutex<()>) {
    let _busy = own.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(fault) = images.release(name) {
        tracing::warn!(%fault, detail = fault.detail, "a workspace stays mounted; the next start removes the mount");
    }
}

/// Bytes and files of one workspace.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    bytes: u64,
    files: u64,
}

impl Bounds {
    fn new(bytes: u64) -> Self {
        Self { bytes, files: (bytes / BYTES_A_FILE).max(FILES_MIN) }
    }
}

/// The workspace of one agent, ready to be mounted. While one is held, it stays mounted.
#[derive(Clone, Debug)]
pub struct Workspace {
    /// Keeps what is mounted.
    #[expect(dead_code, reason = "held for its end, not for its methods")]
    all: Workspaces,
    driver: QuotaDriver,
    path: PathBuf,
    bounds: Bounds,
}

/// What is used of a workspace, and what there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkspaceUsage {
    pub bytes: u64,
    pub files: u64,
    pub bytes_max: u64,
    pub files_max: u64,
}

impl Workspace {
    /// How a sandbox gets it, at [`WORKSPACE_TARGET`]: writable and executable.
    pub fn mount(&self) -> Mount {
        let target = WORKSPACE_TARGET.to_owned();
        match self.driver {
            QuotaDriver::Tmpfs => {
                Mount::Tmpfs { target, bytes: self.bounds.bytes, inodes: self.bounds.files, executable: true }
            }
            QuotaDriver::Project | QuotaDriver::Image | QuotaDriver::Watchdog => Mount::Bind {
                source: self.path.to_string_lossy().into_owned(),
                target,
                writable: true,
                executable: true,
            },
        }
    }

    /// The directory on the host; none where the workspace is the sandbox's own memory.
    pub fn path(&self) -> Option<&Path> {
        (self.driver != QuotaDriver::Tmpfs).then_some(&self.path)
    }

    pub fn driver(&self) -> QuotaDriver {
        self.driver
    }

    /// What is used now. What cannot be told is 0: a workspace in memory is counted with the memory of its agent.
    pub fn usage(&self) -> WorkspaceUsage {
        self.used_by(&[]).unwrap_or(self.nothing_used())
    }

    /// What is used now, with what these processes hold of it without a name; none where it cannot be told.
    pub fn used_by(&self, processes: &[u32]) -> Option<WorkspaceUsage> {
        self.measure(processes).ok()
    }

    /// Whether the workspace is within its bound, with what these processes hold of it without a name. The fault is a reason to stop the agent; it says by how much the bound was
    /// passed. Only the watchdog finds something: with the other drivers the kernel refuses the write itself.
    pub fn check(&self, processes: &[u32]) -> Result<WorkspaceUsage> {
        let kernel_holds = self.driver != QuotaDriver::Watchdog;
        let usage = match self.measure(processes) {
            // Closed from inside: as good as passed.
            Err(fault) if !kernel_holds && fault.code == Code::WORKSPACE_UNAVAILABLE => {
                return Err(walk::unmeasured(fault.message));
            }
            measured => measured?,
        };
        if kernel_holds || (usage.bytes <= usage.bytes_max && usage.files <= usage.files_max) {
            return Ok(usage);
        }
        let over = usage.bytes.saturating_sub(usage.bytes_max);
        Err(Fault::new(
            Code::WORKSPACE_LIMIT,
            format!(
                "the workspace holds {} bytes in {} files; limits.workspace_bytes allows {} bytes in {} files, and it was \
                 passed by {over} bytes before it was noticed",
                usage.bytes, usage.files, usage.bytes_max, usage.files_max
            ),
        )
        .hint("remove files from the workspace, or raise limits.workspace_bytes in the manifest"))
    }

    fn measure(&self, processes: &[u32]) -> Result<WorkspaceUsage> {
        match self.driver {
            QuotaDriver::Tmpfs => Ok(self.nothing_used()),
            QuotaDriver::Watchdog => {
                // One above the bound is enough to know; what a bomb of files has made is not counted to its end.
                let found = walk::measure(&self.path, self.bounds.files.saturating_add(1))?;
                let device = fs::metadata(&self.path).map_err(|source| unavailable(&self.path, &source))?.dev();
                let held = held::measure(device, processes)?;
                let (bytes, files) = (found.bytes.saturating_add(held.bytes), found.files.saturating_add(held.files));
                Ok(WorkspaceUsage { bytes, files, ..self.nothing_used() })
            }
            QuotaDriver::Project | QuotaDriver::Image => {
                let found = statvfs(&self.path).map_err(|source| unavailable(&self.path, &source))?;
                Ok(WorkspaceUsage {
                    bytes: found.f_blocks.saturating_sub(found.f_bfree).saturating_mul(found.f_frsize),
                    files: found.f_files.saturating_sub(found.f_ffree),
                    bytes_max: found.f_blocks.saturating_mul(found.f_frsize),
                    files_max: found.f_files,
                })
            }
        }
    }

    fn nothing_used(&self) -> WorkspaceUsage {
        WorkspaceUsage { bytes: 0, files: 0, bytes_max: self.bounds.bytes, files_max: self.bounds.files }
    }
}
