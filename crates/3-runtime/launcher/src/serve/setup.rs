//! What a launcher does once: the bond with its parent, its own state, and everything that is the same for all sandboxes.

use std::{
    cell::RefCell,
    ffi::CString,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
};

use agentos_protocol::sandbox::{FromLauncher, Layer, Profile, SANDBOX_VERSION};
use libc::sock_filter;

use crate::{
    Failure,
    arguments::{Backend, ServeOptions},
    channel::FIRST_FREE,
    child, init,
    landlock::Abi,
    layers, seccomp,
    sys::{self, files, mount::Tree, packets, process, rights, scheduling},
};

/// The same for every sandbox of this launcher.
#[derive(Debug)]
pub struct Setup {
    pub profile: Profile,
    pub backend: Backend,
    pub filter: Vec<sock_filter>,
    pub landlock: Abi,
    pub layers: Vec<Layer>,
    /// The program of the first process; `None` where only a child can mount.
    pub init: Option<OwnedFd>,
    pub program_path: CString,
    pub volunteers_for_oom: bool,
    /// A single sandbox is to come, so that nothing is made to be copied.
    pub is_for_one: bool,
    /// Made once, where this process may make nodes.
    pub devices: Option<Tree>,
    /// Of a single sandbox, whose order is still being written while this is made.
    pub devices_for_one: RefCell<Option<Tree>>,
    pub user: u32,
    pub group: u32,
    /// A mask of the server's is gone already, so that no child has to take it off: moving a process takes longer than that.
    pub has_all_processors: bool,
}

impl Setup {
    pub fn new(options: &ServeOptions) -> Result<Self, Failure> {
        let failed = |stage: &'static str| move |message: String| Failure { stage, message };
        die_with_parent(options.parent).map_err(failed("parent"))?;
        check_channel().map_err(failed("channel"))?;
        reserve_descriptors().map_err(failed("descriptors"))?;
        reset_self();
        if options.has_trial {
            // Best effort: without it the server waits longer for a processor that an agent holds.
            let _ = scheduling::shorten_slices(options.parent);
        }
        let has_all_processors = process::use_all_processors().is_ok();
        let path = std::env::current_exe().map_err(|error| failed("program")(format!("own program: {error}")))?;
        let program_path = CString::new(path.as_os_str().as_bytes())
            .map_err(|_| failed("program")("the own path holds a NUL byte".into()))?;
        let user = process::effective_user();
        let init = match options.backend {
            Backend::Native => init::mounted().ok(),
            Backend::Bwrap => None,
            Backend::None => {
                Some(init::in_memory().map_err(|error| failed("program")(format!("the init's program: {error}")))?)
            }
        };
        let mut setup = Self {
            profile: options.profile,
            backend: options.backend,
            filter: seccomp::compile(options.profile),
            landlock: Abi::probe(),
            layers: Vec::new(),
            init,
            program_path,
            volunteers_for_oom: child::should_volunteer(),
            is_for_one: !options.has_trial,
            devices: None,
            devices_for_one: RefCell::default(),
            user,
            group: process::effective_group(),
            has_all_processors,
        };
        match setup.has_nodes() {
            true if setup.is_for_one => setup.devices_for_one = child::devices::single().ok().into(),
            true => setup.devices = child::devices::folder(),
            false => {}
        }
        setup.layers = if options.has_trial { layers::probe(&setup) } else { layers::known(&setup) };
        Ok(setup)
    }

    pub fn greeting(&self) -> FromLauncher {
        FromLauncher::Ready { version: SANDBOX_VERSION, profile: self.profile, layers: self.layers.clone() }
    }

    /// True if this launcher is to make nodes by itself, if it can.
    pub fn has_nodes(&self) -> bool {
        self.backend == Backend::Native && self.is_privileged()
    }

    /// True if this launcher may map other users and copy mounts by itself.
    pub fn is_privileged(&self) -> bool {
        self.user == 0
    }
}

/// First the signal, then the check: a parent that died before the signal was set has been replaced by then.
fn die_with_parent(expected: i32) -> Result<(), String> {
    sys::set_parent_death_signal().map_err(|error| format!("the parent-death signal could not be set: {error}"))?;
    match sys::parent_process() {
        actual if actual == expected => Ok(()),
        actual => Err(format!("the parent is process {actual}, not {expected}: the one that asked has ended")),
    }
}

fn check_channel() -> Result<(), String> {
    match packets::is_seqpacket(sys::STDIN) {
        Ok(true) => Ok(()),
        Ok(false) => Err("descriptor 0 is not a unix socket of packets".into()),
        Err(error) => Err(format!("descriptor 0 is not a socket: {error}")),
    }
}

/// Nothing that was inherited stays, and the low numbers are taken, so that a child can sort its own into them without
/// hitting one that it still needs.
fn reserve_descriptors() -> Result<(), String> {
    let failed = |error: std::io::Error| format!("the descriptors could not be reserved: {error}");
    sys::close_from(3).map_err(failed)?;
    let null = files::open(c"/dev/null", libc::O_RDWR).map_err(failed)?;
    for number in 1..FIRST_FREE {
        use std::os::fd::AsRawFd;
        let is_missing = number > 2 || !files::is_open(number);
        if is_missing && number != null.as_raw_fd() {
            files::copy_to(null.as_raw_fd(), number, true).map_err(failed)?;
        }
    }
    std::mem::forget(null);
    files::set_close_on_exec(sys::STDIN, true).map_err(failed)
}

/// Only this process may still have the right to give up what it inherited. What it may not, its children say.
fn reset_self() {
    let _ = rights::drop_supplementary_groups();
    let _ = scheduling::use_normal_scheduling();
    let _ = scheduling::set_nice_level(0);
    // Who may not take it back could not have given it to the server either.
    let _ = scheduling::use_usual_slice();
    sys::default_all_signals();
    let _ = sys::unblock_all_signals();
    // What is made for sandboxes says by itself who may read it; programs get a mask of their own.
    sys::set_file_mask(0);
}
