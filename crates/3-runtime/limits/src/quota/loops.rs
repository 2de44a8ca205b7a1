//! Loop devices: from the file of a workspace to a mount of it, at the same price whatever else is mounted.
//!
//! `mount -o loop` would do all of it, and reads the whole table of mounts and asks every loop device of the machine for that:
//! a server with a thousand workspaces would ask a million times. Here a device is looked into unless this server has
//! mounted it, for one reason: two devices on one file are two caches of one file system, which destroy it. Whoever has the
//! file already, a process of an earlier life that still ends or a person who looks into it, is joined.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use agentos_types::{Code, Fault, Result};
use rustix::mount::{MountFlags, mount};

use super::{
    place::{RETRY, maybe_later, unavailable},
    programs::{Programs, text},
};

/// Every disk of the machine by its name, loop devices among them.
const DISKS: &str = "/sys/block";

/// What is mounted by this server, and whose turn it is.
#[derive(Debug, Default)]
pub(crate) struct Loops {
    /// Names of devices: what is behind them cannot change while they are mounted.
    own: Mutex<BTreeSet<String>>,
    /// `losetup` looks for a free device and takes it in a second step; who comes in between sleeps for long and tries again.
    turn: Mutex<()>,
}

/// A device with the file behind it. Open, so that the kernel does not free it before it is mounted.
struct Held {
    name: String,
    _open: File,
}

impl Loops {
    /// Mounts the image. Returns the name of its device, for [`Loops::keep`]. The kernel frees the device with its last mount,
    /// so that a killed server leaves a mount and nothing else.
    pub(crate) fn mount(&self, programs: &Programs, image: &Path, target: &Path) -> Result<String> {
        let held = match self.find(image)? {
            Some(held) => held,
            None => self.attach(programs, image)?,
        };
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
        // `discard` gives back to the disk what is deleted inside.
        mount(node(&held.name), target, c"ext4", flags, c"discard,errors=remount-ro").map_err(|source| {
            let message = "the image of a workspace cannot be mounted";
            maybe_later(
                Fault::new(Code::WORKSPACE_UNAVAILABLE, message).detail(format!("{}: {source}", image.display())),
                &source,
            )
        })?;
        Ok(held.name)
    }

    /// The device stays mounted by us until [`Loops::give_up`].
    pub(crate) fn keep(&self, name: String) {
        self.own().insert(name);
    }

    /// Before what is mounted there is unmounted.
    pub(crate) fn give_up(&self, target: &Path) {
        let Ok(found) = fs::symlink_metadata(target) else { return };
        let numbers = format!("{}:{}", rustix::fs::major(found.dev()), rustix::fs::minor(found.dev()));
        let device = fs::read_link(format!("/sys/dev/block/{numbers}")).unwrap_or_default();
        if let Some(name) = device.file_name().and_then(OsStr::to_str) {
            self.own().remove(name);
        }
    }

    /// The device that has the file already.
    fn find(&self, image: &Path) -> Result<Option<Held>> {
        for name in self.unknown()? {
            if backing_file(&name).is_none_or(|file| file != image) {
                continue;
            }
            // It may be freed, and have another file, until it is open.
            match File::open(node(&name)) {
                Ok(open) if backing_file(&name).is_some_and(|file| file == image) => {
                    return Ok(Some(Held { name, _open: open }));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// Devices with a file that somebody else may have brought. Those of the other workspaces are not among them.
    pub(super) fn unknown(&self) -> Result<impl Iterator<Item = String>> {
        let own = self.own().clone();
        Ok(devices()?.filter(move |name| !own.contains(name)))
    }

    fn attach(&self, programs: &Programs, image: &Path) -> Result<Held> {
        let _in_turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let said = programs.ask("losetup", &["--find", "--show", "--", text(image)?])?;
        let name = said.trim().strip_prefix("/dev/").filter(|name| is_loop(name)).unwrap_or_default().to_owned();
        let open = File::open(node(&name));
        // In use it is not freed now, but as soon as nobody uses it any more.
        let marked = programs.run("losetup", &["--detach", &node(&name)]);
        let open = open.map_err(|source| unavailable(Path::new(&node(&name)), &source))?;
        marked?;
        if backing_file(&name).is_none_or(|file| file != image) {
            let fault = Fault::new(Code::WORKSPACE_UNAVAILABLE, "the loop device of a workspace went to somebody else");
            return Err(fault.detail(said).retry_after(RETRY));
        }
        Ok(Held { name, _open: open })
    }

    fn own(&self) -> MutexGuard<'_, BTreeSet<String>> {
        // A list of names: whole after any panic.
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets the kernel free every device with a file of this directory that nobody uses: a server that was killed between two
/// steps of an attachment leaves one.
pub(crate) fn free(programs: &Programs, directory: &Path) {
    let ours = |name: &String| backing_file(name).is_some_and(|file| file.starts_with(directory));
    for name in devices().into_iter().flatten().filter(ours) {
        if let Err(fault) = programs.run("losetup", &["--detach", &node(&name)]) {
            tracing::warn!(device = name, %fault, detail = fault.detail, "the loop device of an earlier server stays");
        }
    }
}

/// As many as the machine has ever used at once.
pub(super) fn devices() -> Result<impl Iterator<Item = String>> {
    let entries = fs::read_dir(DISKS).map_err(|source| unavailable(Path::new(DISKS), &source))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    Ok(names.filter(|name| is_loop(name)))
}

fn is_loop(name: &str) -> bool {
    let digits = name.strip_prefix("loop").unwrap_or_default();
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

pub(super) fn node(name: &str) -> String {
    format!("/dev/{name}")
}

/// None where nothing is attached.
pub(super) fn backing_file(name: &str) -> Option<PathBuf> {
    let text = fs::read_to_string(format!("{DISKS}/{name}/loop/backing_file")).ok()?;
    Some(PathBuf::from(text.trim_end_matches('\n')))
}
