//! A workspace as an ext4 image behind a loop device: a file of fixed size that we make, format and mount, so that its size
//! bounds bytes and inodes exactly. The file is sparse: it takes from the disk what is used.
//!
//! Only images that this server has made are ever mounted, from a directory that nobody else enters: a file system that an
//! agent could write byte by byte would attack the kernel's reader. A killed server leaves mounts, and [`Images::sweep`] finds
//! them.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::MetadataExt,
    path::Path,
};

use agentos_types::{Code, Fault, Result};
use rustix::{
    fs::{ext4_ioc_resize_fs, statvfs},
    io::Errno,
    mount::{UnmountFlags, unmount},
    thread::{CapabilitySet, capabilities},
};

use super::{
    blank::Blanks,
    copy::{Cap, copy},
    loops::{self, Loops},
    mounts,
    place::{Home, Places, holds_something, is_own_file, make_private, maybe_later, unavailable},
    programs::Programs,
    walk::{give, open_top},
};

/// The smallest file system with a journal that leaves room for data.
pub(crate) const IMAGE_BYTES_MIN: u64 = 4 << 20;
const MEBIBYTE: u64 = 1 << 20;
/// What mkfs makes for fsck of damaged disks, which makes it anew; to a program it is a riddle.
const FOR_FSCK: &str = "lost+found";

#[derive(Debug)]
pub(crate) struct Images<'i> {
    pub(crate) places: &'i Places,
    pub(crate) programs: &'i Programs,
    pub(crate) loops: &'i Loops,
    pub(crate) blanks: &'i Blanks,
}

/// Whole mebibytes, and at least what a file system needs.
pub(crate) fn image_bytes(bytes: u64) -> u64 {
    bytes.div_ceil(MEBIBYTE).saturating_mul(MEBIBYTE).max(IMAGE_BYTES_MIN)
}

impl Images<'_> {
    /// Mounts the image of the workspace, with its data, whatever held them before. Already mounted, it only grows.
    pub(crate) fn prepare(&self, name: &str, bytes: u64, owner: u32) -> Result<()> {
        let wanted = image_bytes(bytes);
        match self.places.home(name)? {
            Home::Directory => self.move_in(name, wanted, owner)?,
            Home::Image => self.fit(name, wanted, owner)?,
        }
        let target = self.places.workspace(name);
        if !self.is_mounted(name) {
            make_private(&target).map_err(|source| unavailable(&target, &source))?;
            if holds_something(&target) {
                tracing::warn!(directory = %target.display(), "files lie beneath the mount of a workspace and are not seen");
            }
            self.mount_here(name)?;
        }
        self.fill_image(&target, wanted)?;
        give(&target, owner, u64::MAX)
    }

    /// Unmounts. A user that is left keeps its own view of it until it ends; from here it is gone.
    pub(crate) fn release(&self, name: &str) -> Result<()> {
        let target = self.places.workspace(name);
        while self.is_mounted(name) {
            self.loops.give_up(&target);
            match unmount(&target, UnmountFlags::NOFOLLOW) {
                Ok(()) => {}
                Err(Errno::BUSY) => {
                    unmount(&target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
                        .map_err(|source| unavailable(&target, &source))?;
                }
                Err(source) => return Err(unavailable(&target, &source)),
            }
        }
        Ok(())
    }

    /// Takes the data out of the image into a plain directory.
    pub(crate) fn move_out(&self, name: &str, cap: Cap, owner: u32) -> Result<()> {
        let (image, target) = (self.places.image(name), self.places.workspace(name));
        let (mounted, filled) = (self.places.staging(name), self.places.staging(&format!("{name}.filled")));
        is_own_file(&image)?;
        self.release(name)?;
        remove_tree(&filled);
        for directory in [&mounted, &filled] {
            make_private(directory).map_err(|source| unavailable(directory, &source))?;
        }
        self.mount(&image, &mounted)?;
        let copied = copy(&mounted, &filled, cap, owner);
        self.unmount_staging(&mounted)?;
        copied?;
        if holds_something(&target) {
            // Left by a move that broke off, or put there by a person while nothing was mounted.
            let aside = self.places.moved(&format!("{name}.found"));
            tracing::warn!(directory = %aside.display(), "files that lay beneath the mount of a workspace were put aside");
            remove_tree(&aside);
            fs::rename(&target, &aside).map_err(|source| unavailable(&target, &source))?;
        }
        // An empty directory gives way to the other.
        fs::rename(&filled, &target).map_err(|source| unavailable(&target, &source))?;
        self.places.set_home(name, Home::Directory)?;
        fs::remove_file(&image).map_err(|source| unavailable(&image, &source))
    }

    /// Removes what dead servers left: mounts of our images, half-made images, copies of what has moved. What is still in
    /// use stays mounted and is used on.
    pub(crate) fn sweep(&self) {
        for line in mounts::read().iter().rev().filter(|line| line.target.starts_with(self.places.root())) {
            let own = mounts::backing_file(&line.device).is_some_and(|file| file.starts_with(self.places.images()));
            if own {
                let outcome = unmount(&line.target, UnmountFlags::NOFOLLOW);
                tracing::info!(directory = %line.target.display(), ?outcome, "mount of an earlier server found");
            }
        }
        loops::free(self.programs, &self.places.images());
        for (file, name) in entries(&self.places.images()) {
            if name.ends_with(".blank") {
                // Of an earlier program, perhaps. This server makes its own.
                let _ = fs::remove_file(file);
                continue;
            }
            let agent = name.strip_suffix(".new").or_else(|| name.strip_suffix(".ext4"));
            let home = agent.map(|agent| self.places.home(agent));
            if name.ends_with(".new") || matches!(home, Some(Ok(Home::Directory))) {
                // An error leaves it for the next start; it is in nobody's way.
                let _ = fs::remove_file(file);
            }
        }
        for (directory, name) in entries(&self.places.moved("")) {
            if name.ends_with(".found") {
                continue;
            }
            match self.places.home(&name) {
                // It was put there, and then the server died before the image counted.
                Ok(Home::Directory) if !holds_something(&self.places.workspace(&name)) => {
                    let _ = fs::rename(&directory, self.places.workspace(&name));
                }
                Ok(_) => remove_tree(&directory),
                Err(_) => {}
            }
        }
    }

    /// From a directory into a new image. The directory stays what counts until all of it is on the disk.
    fn move_in(&self, name: &str, wanted: u64, owner: u32) -> Result<()> {
        let (target, moved) = (self.places.workspace(name), self.places.moved(name));
        if !holds_something(&target) {
            return self.begin(name, wanted);
        }
        self.make_copy(name, wanted, owner, &target)?;
        self.name_image(name)?;
        fs::rename(&target, &moved).map_err(|source| unavailable(&target, &source))?;
        self.places.set_home(name, Home::Image)?;
        tracing::info!(workspace = name, "the workspace has moved from its directory into an image");
        remove_tree(&moved);
        Ok(())
    }

    /// A first workspace: nothing is copied, so that it is mounted once and where it belongs.
    fn begin(&self, name: &str, wanted: u64) -> Result<()> {
        let target = self.places.workspace(name);
        self.format(name, wanted)?;
        self.name_image(name)?;
        make_private(&target).map_err(|source| unavailable(&target, &source))?;
        self.mount_here(name)?;
        let begun = tidy(&target).and_then(|()| self.places.set_home(name, Home::Image));
        if begun.is_err() {
            // It does not count, and the next attempt makes another one.
            self.release(name)?;
        }
        begun
    }

    fn name_image(&self, name: &str) -> Result<()> {
        let image = self.places.image(name);
        fs::rename(self.places.new_image(name), &image).map_err(|source| unavailable(&image, &source))
    }

    /// Gives an image another size: in place when it grows and the kernel lets us, otherwise by a new one, which takes its
    /// place in one step and needs room for both until then. ext4 does not shrink while it is mounted.
    fn fit(&self, name: &str, wanted: u64, owner: u32) -> Result<()> {
        let image = self.places.image(name);
        let length = is_own_file(&image)?;
        if length == wanted {
            return Ok(());
        }
        if length < wanted && may_resize() {
            let grow = || OpenOptions::new().write(true).open(&image)?.set_len(wanted);
            grow().map_err(|source| unavailable(&image, &source))?;
            return match mounts::at(&mounts::read(), &self.places.workspace(name)) {
                Some(line) => self.programs.run("losetup", &["-c", &line.source]),
                None => Ok(()),
            };
        }
        self.release(name)?;
        let (staged, new) = (self.places.staging(name), format!("{name}.resized"));
        make_private(&staged).map_err(|source| unavailable(&staged, &source))?;
        self.mount(&image, &staged)?;
        let made = self.make_copy(&new, wanted, owner, &staged);
        self.unmount_staging(&staged)?;
        made?;
        fs::rename(self.places.new_image(&new), &image).map_err(|source| unavailable(&image, &source))
    }

    /// A new file with an empty file system. Any earlier attempt is gone.
    fn format(&self, name: &str, bytes: u64) -> Result<()> {
        self.blanks.put(self.places, self.programs, bytes, &self.places.new_image(name))
    }

    /// A new file with a new file system, and in it a copy of `from`, all of it on the disk.
    fn make_copy(&self, name: &str, bytes: u64, owner: u32, from: &Path) -> Result<()> {
        self.format(name, bytes)?;
        let staged = self.places.staging(&format!("{name}.new"));
        make_private(&staged).map_err(|source| unavailable(&staged, &source))?;
        self.mount(&self.places.new_image(name), &staged)?;
        let filled = tidy(&staged).and_then(|()| copy(from, &staged, Cap { bytes, files: u64::MAX }, owner));
        self.unmount_staging(&staged)?;
        filled
    }

    /// Lets the file system take all of its file, also when a server died before it did. Nothing to do is quick.
    fn fill_image(&self, target: &Path, bytes: u64) -> Result<()> {
        if !may_resize() {
            return Ok(());
        }
        let block = statvfs(target).map_err(|source| unavailable(target, &source))?.f_bsize.max(1);
        ext4_ioc_resize_fs(open_top(target)?, bytes / block).map_err(|source| {
            let message = "the image of a workspace could not be made larger";
            maybe_later(Fault::new(Code::WORKSPACE_UNAVAILABLE, message).detail(source), &source)
        })
    }

    /// By the device that is there, because the table of mounts is long where there are many agents.
    fn is_mounted(&self, name: &str) -> bool {
        let device = |path: &Path| fs::symlink_metadata(path).ok().map(|found| found.dev());
        match (device(&self.places.workspace(name)), device(self.places.root())) {
            (Some(here), Some(around)) if here != around => {
                let numbers = format!("{}:{}", rustix::fs::major(here), rustix::fs::minor(here));
                mounts::backing_file(&numbers).is_some_and(|file| file == self.places.image(name))
            }
            _ => false,
        }
    }

    fn mount_here(&self, name: &str) -> Result<()> {
        let device = self.loops.mount(self.programs, &self.places.image(name), &self.places.workspace(name))?;
        self.loops.keep(device);
        Ok(())
    }

    fn mount(&self, image: &Path, target: &Path) -> Result<()> {
        self.loops.mount(self.programs, image, target).map(drop)
    }

    fn unmount_staging(&self, target: &Path) -> Result<()> {
        unmount(target, UnmountFlags::NOFOLLOW).map_err(|source| unavailable(target, &source))?;
        // Empty again; a directory that stays is used the next time.
        let _ = fs::remove_dir(target);
        Ok(())
    }
}

/// What mkfs leaves becomes what an agent finds: nothing, and its own alone.
fn tidy(top: &Path) -> Result<()> {
    let _ = fs::remove_dir(top.join(FOR_FSCK));
    rustix::fs::fchmod(open_top(top)?, rustix::fs::Mode::RWXU).map_err(|source| unavailable(top, &source))
}

/// What the kernel asks of who resizes a mounted ext4. A container may be root without it.
fn may_resize() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_RESOURCE))
}

fn entries(directory: &Path) -> Vec<(std::path::PathBuf, String)> {
    let Ok(found) = fs::read_dir(directory) else { return Vec::new() };
    found.flatten().filter_map(|entry| Some((entry.path(), entry.file_name().into_string().ok()?))).collect()
}

/// What cannot be removed is in nobody's way: nothing counts on it.
pub(super) fn remove_tree(directory: &Path) {
    if let Err(source) = fs::remove_dir_all(directory)
        && source.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(directory = %directory.display(), %source, "what was left of a workspace could not be removed");
    }
}
