//! Whose process this is: its parent, its user, its cgroup, and the settings that only a namespace's creator may change.

use std::{fs, io};

use agentos_protocol::sandbox::INNER_ID;

use crate::{
    channel::{CHANNEL, GO},
    left_out,
    sys::{self, files, packets, process, rights},
};

use super::{Child, User};

/// First the signal, then the go, then a look whether the launcher still lives: one that died before the signal was set has
/// closed its end by then, and one that dies later kills.
pub fn await_launcher(_: &mut Child<'_>) -> Result<(), String> {
    die_with_parent()?;
    let mut buffer = [0; 16];
    match packets::receive(CHANNEL, &mut buffer, true) {
        Ok(packet) if buffer.get(..packet.length) == Some(GO) => {}
        Ok(_) => return Err("the launcher gave no go".into()),
        Err(error) => return Err(format!("the launcher's go could not be read: {error}")),
    }
    still_wanted()
}

pub fn await_bwrap(_: &mut Child<'_>) -> Result<(), String> {
    die_with_parent()?;
    still_wanted()
}

pub fn die_with_parent() -> Result<(), String> {
    sys::set_parent_death_signal().map_err(|error| format!("the parent-death signal could not be set: {error}"))
}

pub fn still_wanted() -> Result<(), String> {
    match packets::is_hung_up(CHANNEL) {
        true => Err("the launcher has ended".into()),
        false => Ok(()),
    }
}

/// After the process is in its cgroup, so that its own one is the root of what it sees.
pub fn own_cgroup_namespace(_: &mut Child<'_>) -> Result<(), String> {
    process::unshare(libc::CLONE_NEWCGROUP).map_err(|error| format!("no cgroup namespace: {error}"))
}

const MEMFD_NOEXEC: &std::ffi::CStr = c"/proc/sys/vm/memfd_noexec";
/// Nobody can make an executable memory file, nor take the seal off.
const NOEXEC_ENFORCED: &[u8] = b"2";
/// One page: System V shared memory is outside of all limits but this one.
const SHMMAX: &[u8] = b"4096";

/// Settings of the new pid and ipc namespaces. The kernel takes them from the machine's own root alone, so they come before
/// the change of user.
pub fn settings(child: &mut Child<'_>) -> Result<(), String> {
    // Without a namespace of its own this would be the machine's setting.
    if !child.order.anonymous_programs && !left_out::is("processes") {
        // Best effort: it needs root and Linux 6.3, and the filter of system calls says the same.
        let _ = files::write_file(MEMFD_NOEXEC, NOEXEC_ENFORCED);
    }
    // Best effort: without it the memory cgroup counts the segments all the same, and the filter of system calls decides
    // whether there are any.
    if !left_out::is("ipc") {
        let _ = files::write_file(c"/proc/sys/kernel/shmmax", SHMMAX);
    }
    Ok(())
}

/// The profile takes effect at the next `execve`. Before the change of user, because afterwards the file is root's.
pub fn apparmor(child: &mut Child<'_>) -> Result<(), String> {
    let Some(name) = &child.order.apparmor else { return Ok(()) };
    // Whoever is in a profile keeps it: without new privileges only another one can be added.
    let own = fs::read_to_string("/proc/self/attr/apparmor/current").unwrap_or_default();
    let is_free = own.starts_with("unconfined") || own.trim_end().ends_with("(unconfined)");
    let command = format!("{} {name}", if is_free { "exec" } else { "stack" });
    files::write_file(c"/proc/self/attr/apparmor/exec", command.as_bytes()).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            format!("AppArmor is not active in this kernel, so profile {name} cannot be entered")
        }
        _ => format!("AppArmor profile {name} could not be entered: {error} (is it loaded?)"),
    })
}

/// Capabilities in the new user namespace stay, because neither the old nor the new user is 0 in it. The kernel clears the
/// parent-death signal at this change, so it is set once more.
pub fn become_inner_user(_: &mut Child<'_>) -> Result<(), String> {
    rights::become_user(INNER_ID, INNER_ID).map_err(|error| format!("user {INNER_ID} could not be taken: {error}"))?;
    die_with_parent()?;
    still_wanted()
}

/// For bwrap, which maps the user that it is started by.
pub fn become_host_user(child: &mut Child<'_>) -> Result<(), String> {
    let (User::Other, Some(id)) = (child.user, child.order.host_id) else { return Ok(()) };
    let group = child.order.host_gid.unwrap_or(id);
    rights::become_user(id, group).map_err(|error| format!("user {id} could not be taken: {error}"))?;
    die_with_parent()?;
    still_wanted()
}
