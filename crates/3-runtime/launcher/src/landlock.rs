//! Landlock behind the mounts: scopes of signals and abstract sockets.

use std::{io, mem, ptr};

use agentos_protocol::sandbox::SandboxOrder;

/// What this kernel knows of Landlock; 0 is nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Abi(pub i32);

impl Abi {
    pub fn probe() -> Self {
        const VERSION: libc::c_long = 1;
        let none: libc::c_long = 0;
        // SAFETY: with this flag the call takes a null pointer and no size.
        let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, ptr::null::<u8>(), none, VERSION) };
        Self(i32::try_from(version).unwrap_or(0).max(0))
    }
}

#[repr(C)]
struct Ruleset {
    files: u64,
    network: u64,
    scopes: u64,
}

pub fn restrict(_: &SandboxOrder) -> Result<(), String> {
    if Abi::probe() < Abi(6) {
        return Ok(());
    }
    let failed = |error: io::Error| format!("Landlock: {error}");
    let ruleset = Ruleset { files: 0, network: 0, scopes: 3 };
    let none: libc::c_long = 0;
    // SAFETY: the structure has the layout of ABI 6 and lives through the call.
    let made = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, &raw const ruleset, mem::size_of::<Ruleset>(), none)
    };
    if made == -1 {
        return Err(failed(io::Error::last_os_error()));
    }
    // SAFETY: both arguments are integers.
    match unsafe { libc::syscall(libc::SYS_landlock_restrict_self, made, none) } {
        0 => {
            crate::sys::files::close(made as i32);
            Ok(())
        }
        _ => Err(failed(io::Error::last_os_error())),
    }
}
