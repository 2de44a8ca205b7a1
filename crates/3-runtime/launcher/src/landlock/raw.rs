//! The three system calls of Landlock, and the structures that the kernel reads.

use std::{
    ffi::CStr,
    fs::File,
    io, mem,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    ptr,
};

use super::{Abi, OF_FILES};

#[repr(C)]
struct RulesetAttributes {
    files: u64,
    tcp: u64,
    scoped: u64,
}

/// Twelve bytes: the kernel's structure has no padding.
#[repr(C, packed)]
pub struct PathRule {
    pub rights: u64,
    pub descriptor: RawFd,
}

#[repr(C)]
pub struct PortRule {
    pub rights: u64,
    pub port: u64,
}

const RULE_PATH: libc::c_long = 1;
const RULE_PORT: libc::c_long = 2;
const VERSION: libc::c_long = 1;

fn outcome(result: libc::c_long) -> io::Result<libc::c_long> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value),
    }
}

/// 0 where the kernel has none, or has it switched off.
pub fn version() -> u32 {
    let nothing = ptr::null::<RulesetAttributes>();
    // SAFETY: with this flag the kernel takes no structure, and touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0 as libc::size_t, VERSION) };
    u32::try_from(result).unwrap_or(0)
}

pub struct Ruleset(OwnedFd);

impl Ruleset {
    pub fn new(abi: Abi, files: u64, tcp: u64, scoped: u64) -> io::Result<Ruleset> {
        let attributes = RulesetAttributes { files, tcp, scoped };
        // An older kernel takes a shorter structure.
        let words = match abi {
            abi if abi.has_scopes() => 3,
            abi if abi.has_tcp() => 2,
            _ => 1,
        };
        let length = words * mem::size_of::<u64>();
        let flags: libc::c_long = 0;
        // SAFETY: the pointer is to a live local that has at least this length.
        let result = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attributes, length, flags) };
        let descriptor = RawFd::try_from(outcome(result)?).map_err(|_| io::ErrorKind::InvalidData)?;
        // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
        Ok(Ruleset(unsafe { OwnedFd::from_raw_fd(descriptor) }))
    }

    pub fn allow_path(&self, rule: &PathRule) -> io::Result<()> {
        self.add(RULE_PATH, ptr::from_ref(rule).cast())
    }

    pub fn allow_port(&self, rule: &PortRule) -> io::Result<()> {
        self.add(RULE_PORT, ptr::from_ref(rule).cast())
    }

    fn add(&self, kind: libc::c_long, rule: *const libc::c_void) -> io::Result<()> {
        let flags: libc::c_long = 0;
        // SAFETY: both callers pass a live structure of this kind.
        outcome(unsafe { libc::syscall(libc::SYS_landlock_add_rule, self.0.as_raw_fd(), kind, rule, flags) }).map(drop)
    }

    pub fn enforce(&self) -> io::Result<()> {
        let flags: libc::c_long = 0;
        // SAFETY: a descriptor and an integer; no memory of ours is touched.
        outcome(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, self.0.as_raw_fd(), flags) }).map(drop)
    }
}

/// A place in the file system, not open for anything.
pub struct Place {
    file: File,
    is_directory: bool,
}

pub fn open_path(path: &CStr) -> io::Result<Place> {
    // SAFETY: a CStr is a live, NUL-terminated string.
    let descriptor = unsafe { libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC | libc::O_NOFOLLOW) };
    let descriptor =
        RawFd::try_from(outcome(libc::c_long::from(descriptor))?).map_err(|_| io::ErrorKind::InvalidData)?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    let file = unsafe { File::from_raw_fd(descriptor) };
    let is_directory = file.metadata()?.is_dir();
    Ok(Place { file, is_directory })
}

impl Place {
    pub fn allow(&self, ruleset: &Ruleset, rights: u64) -> io::Result<()> {
        let rights = if self.is_directory { rights } else { rights & OF_FILES };
        match rights {
            // The kernel refuses an empty rule.
            0 => Ok(()),
            rights => ruleset.allow_path(&PathRule { rights, descriptor: self.file.as_raw_fd() }),
        }
    }
}
