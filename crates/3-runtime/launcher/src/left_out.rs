//! Sandboxes with holes, for tests alone: each wall has to be shown to stop something, so it is left out and attacked.
//!
//! Compiled into a second program (feature `walls-left-out`, built by `scripts/build-for-tests.sh` as
//! `agent-os-launch-open`). In what is shipped every question here is answered by a constant "no".

#[cfg(not(feature = "walls-left-out"))]
mod closed {
    use std::os::fd::BorrowedFd;

    use crate::child::{Run, Stage};

    pub const fn is(_: &str) -> bool {
        false
    }

    pub const fn instead(_: &Stage) -> Option<Run> {
        None
    }

    pub const fn namespaces() -> libc::c_int {
        0
    }

    pub fn add_host(_: BorrowedFd<'_>, _: &[agentos_protocol::sandbox::Mount]) -> Result<(), String> {
        Ok(())
    }
}

#[cfg(not(feature = "walls-left-out"))]
pub use closed::*;

#[cfg(feature = "walls-left-out")]
mod open {
    use std::{
        ffi::{CString, OsString},
        fs,
        os::fd::{AsFd, BorrowedFd},
        sync::OnceLock,
    };

    use agentos_protocol::sandbox::Mount;

    use crate::{
        child::{Child, Run, Stage, mounts},
        sys::{
            files,
            mount::{Attributes, Tree},
        },
    };

    const FLAG: &str = "--without";
    static WALLS: OnceLock<Vec<String>> = OnceLock::new();

    /// Takes `--without WALL,WALL` off the end of the command line.
    pub fn take(words: &mut Vec<OsString>) {
        if let [.., flag, walls] = words.as_slice()
            && flag == FLAG
        {
            let walls = walls.to_string_lossy().split(',').map(str::to_owned).collect();
            let _ = WALLS.set(walls);
            words.truncate(words.len().saturating_sub(2));
        }
    }

    pub fn is(wall: &str) -> bool {
        WALLS.get().is_some_and(|walls| walls.iter().any(|left_out| left_out == wall))
    }

    /// For stages that are one wall and nothing else. Without `tree` there is no file system of its own at all and the
    /// program is looked for on the machine: for figures alone, because nothing that is attacked stands without it.
    pub fn instead(stage: &Stage) -> Option<Run> {
        match stage.name {
            "mounts" if is("tree") => return Some(mounts::make_init),
            "root" if is("tree") => return Some(|_| Ok(())),
            _ => {}
        }
        let wall = match stage.name {
            "system-calls" => "seccomp",
            "cgroup-namespace" => "cgroup-names",
            "hostname" => "names",
            "network" | "limits" | "capabilities" | "landlock" => stage.name,
            _ => return None,
        };
        let nothing: Run = |_| Ok(());
        let run = if wall == "capabilities" { keep_capabilities } else { nothing };
        is(wall).then_some(run)
    }

    /// All of them in every set, so that `execve` keeps them for a user who is not 0.
    fn keep_capabilities(_: &mut Child<'_>) -> Result<(), String> {
        let header: [u32; 2] = [0x2008_0522, 0];
        let mut sets = [0_u32; 6];
        let failed = |what: &str| format!("{what}: {}", std::io::Error::last_os_error());
        // SAFETY: both arrays have the layout of version 3 and live through the call.
        if unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()) } != 0 {
            return Err(failed("capget"));
        }
        let [_, low, _, _, high, _] = sets;
        let all = [low, low, low, high, high, high];
        // SAFETY: both arrays have the layout of version 3 and live through the call.
        if unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), all.as_ptr()) } != 0 {
            return Err(failed("capset"));
        }
        let raise = libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong;
        let held = (u64::from(high) << 32) | u64::from(low);
        for number in (0..64).filter(|number| (held >> number) & 1 == 1) {
            // SAFETY: PR_CAP_AMBIENT takes integers.
            if unsafe { libc::prctl(libc::PR_CAP_AMBIENT, raise, number as libc::c_ulong, 0, 0) } != 0 {
                return Err(failed("ambient"));
            }
        }
        Ok(())
    }

    pub fn namespaces() -> libc::c_int {
        let walls = [
            ("processes", libc::CLONE_NEWPID),
            ("network", libc::CLONE_NEWNET),
            ("ipc", libc::CLONE_NEWIPC),
            ("names", libc::CLONE_NEWUTS),
        ];
        walls.iter().filter(|(wall, _)| is(wall)).fold(0, |flags, (_, flag)| flags | flag)
    }

    /// Without the wall of mounts, all directories of the host are there besides those of the order.
    pub fn add_host(root: BorrowedFd<'_>, mounts: &[Mount]) -> Result<(), String> {
        if !is("mounts") {
            return Ok(());
        }
        let ordered: Vec<&str> = mounts
            .iter()
            .filter_map(|mount| match mount {
                Mount::Bind { target, .. } | Mount::Tmpfs { target, .. } => target.split('/').nth(1),
                _ => None,
            })
            .collect();
        let failed = |error: std::io::Error| format!("the host: {error}");
        for entry in fs::read_dir("/").map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !entry.file_type().map_err(failed)?.is_dir() || name == "proc" || ordered.contains(&name.as_str()) {
                continue;
            }
            let path = CString::new(format!("/{name}")).map_err(|error| error.to_string())?;
            let place = files::find(&path).map_err(failed)?;
            let tree = Tree::copy(place.as_fd(), Attributes::default()).map_err(failed)?;
            let name = CString::new(name).map_err(|error| error.to_string())?;
            files::make_directory_in(root, &name).map_err(failed)?;
            let target = files::open_in(root, &name, libc::O_PATH | libc::O_DIRECTORY, 0).map_err(failed)?;
            tree.attach(target.as_fd()).map_err(failed)?;
        }
        Ok(())
    }
}

#[cfg(feature = "walls-left-out")]
pub use open::*;
