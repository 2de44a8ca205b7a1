//! Users, groups and capabilities. The raw calls: the C library's would tell threads that do not exist.

use std::io;

use super::check;

fn raw(result: libc::c_long) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Real, effective and saved user and group. Capabilities stay, because neither the old nor the new user is 0 in here.
pub fn become_user(user: u32, group: u32) -> io::Result<()> {
    let (user, group) = (libc::c_long::from(user), libc::c_long::from(group));
    // SAFETY: setresgid takes three integers.
    raw(unsafe { libc::syscall(libc::SYS_setresgid, group, group, group) })?;
    // SAFETY: setresuid takes three integers.
    raw(unsafe { libc::syscall(libc::SYS_setresuid, user, user, user) })
}

pub fn drop_supplementary_groups() -> io::Result<()> {
    let none: libc::c_long = 0;
    // SAFETY: a list of no groups is not read.
    raw(unsafe { libc::syscall(libc::SYS_setgroups, none, none) })
}

/// Capabilities of kernels to come are counted too: the kernel refuses the first number that it does not know.
const CAPABILITIES_MAX: libc::c_ulong = 63;

pub fn drop_bounding_set() -> io::Result<()> {
    let none: libc::c_ulong = 0;
    for capability in 0..=CAPABILITIES_MAX {
        // SAFETY: PR_CAPBSET_DROP takes integers.
        match check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, none, none, none) }) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && capability > 0 => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

pub fn drop_ambient_set() -> io::Result<()> {
    let (clear, none) = (libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong, 0 as libc::c_ulong);
    // SAFETY: PR_CAP_AMBIENT takes integers.
    check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, clear, none, none, none) }).map(drop)
}

/// No program becomes root by being root's, no change of user gives capabilities, and nobody can take that back.
pub fn lock_securebits() -> io::Result<()> {
    let bits = libc::SECBIT_NOROOT
        | libc::SECBIT_NOROOT_LOCKED
        | libc::SECBIT_NO_SETUID_FIXUP
        | libc::SECBIT_NO_SETUID_FIXUP_LOCKED
        | libc::SECBIT_KEEP_CAPS_LOCKED
        | libc::SECBIT_NO_CAP_AMBIENT_RAISE
        | libc::SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;
    let none: libc::c_ulong = 0;
    // SAFETY: PR_SET_SECUREBITS takes integers.
    check(unsafe { libc::prctl(libc::PR_SET_SECUREBITS, bits as libc::c_ulong, none, none, none) }).map(drop)
}

/// Version 3 of the kernel's interface: 64 bits for each set, as two halves.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const VERSION_3: u32 = 0x2008_0522;

pub fn drop_capabilities() -> io::Result<()> {
    let header = Header { version: VERSION_3, pid: 0 };
    let none = [Half::default(); 2];
    // SAFETY: both structures have the layout of version 3 and live through the call.
    raw(unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) })
}

/// The effective set of this process.
pub fn effective_capabilities() -> io::Result<u64> {
    let header = Header { version: VERSION_3, pid: 0 };
    let mut halves = [Half::default(); 2];
    // SAFETY: both structures have the layout of version 3 and live through the call.
    raw(unsafe { libc::syscall(libc::SYS_capget, &raw const header, halves.as_mut_ptr()) })?;
    let [low, high] = halves;
    Ok(u64::from(low.effective) | (u64::from(high.effective) << 32))
}
