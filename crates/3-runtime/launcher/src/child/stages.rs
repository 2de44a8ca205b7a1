//! The stages of each back end, from top to bottom; the first failure ends the sandbox. A new wall is a function and a row,
//! at the place where its rights are still there and its predecessors are done.

use std::{
    ffi::{CStr, OsStr},
    fs, io,
    os::unix::ffi::OsStrExt,
};

use crate::{
    channel::{CHANNEL, PLAN, PROGRAM},
    landlock::{self, Rules},
    seccomp,
    sys::{self, files, process, rights, scheduling},
};

use super::{Child, bwrap, identity, mounts, network};

/// One step. On failure it says why, in one sentence.
#[derive(Clone, Copy, Debug)]
pub struct Stage {
    pub name: &'static str,
    pub run: Run,
}

pub type Run = fn(&mut Child<'_>) -> Result<(), String>;

const fn stage(name: &'static str, run: Run) -> Stage {
    Stage { name, run }
}

pub const NATIVE: &[&[Stage]] = &[
    &[
        stage("parent", identity::await_launcher),
        stage("memory-victim", volunteer_for_oom),
        stage("cgroup-namespace", identity::own_cgroup_namespace),
        stage("kernel-settings", identity::settings),
        stage("apparmor", identity::apparmor),
        stage("user", identity::become_inner_user),
    ],
    WALLS,
];

/// Before bwrap: what needs the launcher's rights or /proc of the machine.
pub const BWRAP_OUTSIDE: &[&[Stage]] = &[&[
    stage("parent", identity::await_launcher),
    stage("memory-victim", volunteer_for_oom),
    stage("user", identity::become_host_user),
    stage("bwrap", bwrap::execute),
]];

/// Inside of bwrap's namespaces, with its capabilities.
pub const BWRAP_INSIDE: &[&[Stage]] = &[
    &[
        stage("parent", identity::await_bwrap),
        stage("kernel-settings", identity::settings),
        // Not before bwrap, which would be the program that enters the profile.
        stage("apparmor", identity::apparmor),
    ],
    WALLS,
];

/// The same for whoever made the namespaces, so that no back end has a wall less than another.
const WALLS: &[Stage] = &[
    stage("network", network::prepare),
    stage("hostname", network::hostname),
    stage("mounts", mounts::build),
    stage("root", mounts::enter),
    stage("scheduling", reset_scheduling),
    stage("session", start_session),
    stage("signals", reset_signals),
    stage("limits", set_limits),
    stage("capabilities", drop_capabilities),
    stage("no-new-privileges", renounce_privileges),
    stage("landlock", restrict_by_landlock),
    stage("system-calls", filter_system_calls),
    stage("execute", become_init),
];

/// No walls: for development alone.
pub const NONE: &[&[Stage]] = &[&[
    stage("parent", identity::await_launcher),
    stage("memory-victim", volunteer_for_oom),
    stage("scheduling", reset_scheduling),
    stage("session", start_session),
    stage("signals", reset_signals),
    stage("limits", set_limits),
    stage("no-new-privileges", renounce_privileges),
    stage("execute", become_init),
]];

/// Raised so that the kernel ends an agent before it ends the server when memory runs out.
const OOM_SCORE_ADJUSTMENT: i32 = 500;
const OOM_SCORE: &CStr = c"/proc/self/oom_score_adj";

/// Best effort: only the kernel's choice under memory pressure is worse without it.
fn volunteer_for_oom(child: &mut Child<'_>) -> Result<(), String> {
    if child.volunteers_for_oom {
        let _ = files::write_file(OOM_SCORE, OOM_SCORE_ADJUSTMENT.to_string().as_bytes());
    }
    Ok(())
}

/// Whether this process's own score, which its children inherit, is below that.
pub fn should_volunteer() -> bool {
    let present = fs::read_to_string(OsStr::from_bytes(OOM_SCORE.to_bytes())).ok();
    present.and_then(|text| text.trim().parse::<i32>().ok()).is_some_and(|score| score < OOM_SCORE_ADJUSTMENT)
}

/// What the launcher inherited does not go on: it has reset itself as far as it may, and here comes the order's own level.
fn reset_scheduling(child: &mut Child<'_>) -> Result<(), String> {
    scheduling::use_normal_scheduling().map_err(|error| format!("normal scheduling could not be restored: {error}"))?;
    sys::reset_io_priority();
    if !child.has_all_processors {
        process::use_all_processors().map_err(|error| format!("the processors could not be reset: {error}"))?;
    }
    if let Some(count) = child.order.processors {
        process::use_some_processors(usize::from(count), child.order.id)
            .map_err(|error| format!("the processors could not be divided: {error}"))?;
    }
    let wanted = child.order.nice;
    let present = scheduling::nice_level();
    if present == wanted {
        return Ok(());
    }
    match scheduling::set_nice_level(wanted) {
        // A server that runs at lowered priority without privileges keeps its sandboxes there too.
        Err(_) if present > wanted => Ok(()),
        outcome => outcome.map_err(|error| format!("nice level {present} could not become {wanted}: {error}")),
    }
}

/// A session of its own: no controlling terminal.
fn start_session(_: &mut Child<'_>) -> Result<(), String> {
    sys::start_session().map_err(|error| format!("no new session: {error}"))
}

/// An ignored or blocked signal survives `execve`: a program that ignores SIGPIPE or SIGTERM is not what its author tested.
fn reset_signals(_: &mut Child<'_>) -> Result<(), String> {
    sys::default_all_signals();
    sys::set_file_mask(0o077);
    sys::unblock_all_signals().map_err(|error| format!("signals could not be unblocked: {error}"))
}

/// The same for everybody. 1 is a core dump of one byte, which is none, and unlike 0 it keeps the kernel from starting the
/// machine's own program for crashes as well.
const FIXED_LIMITS: [(sys::Resource, u64); 6] = [
    (sys::Resource::Core, 1),
    (sys::Resource::LockedMemory, 8 << 20),
    (sys::Resource::PendingSignals, 4096),
    (sys::Resource::Queues, 800 << 10),
    (sys::Resource::Nice, 0),
    (sys::Resource::RealTime, 0),
];

/// Hard and soft limit alike, so that nobody inside can raise them.
fn set_limits(child: &mut Child<'_>) -> Result<(), String> {
    let limits = &child.order.limits;
    let rows = [
        ("file size", sys::Resource::FileSize, Some(limits.file_bytes)),
        ("open files", sys::Resource::OpenFiles, Some(limits.open_files)),
        ("address space", sys::Resource::AddressSpace, limits.address_space_bytes),
        ("CPU seconds", sys::Resource::CpuSeconds, limits.cpu_seconds),
        ("processes", sys::Resource::Processes, limits.processes),
    ];
    for (resource, value) in FIXED_LIMITS {
        sys::lower_limit(resource, value).map_err(|error| format!("{resource:?} could not be limited: {error}"))?;
    }
    for (name, resource, value) in rows {
        let Some(value) = value else { continue };
        sys::set_limit(resource, value).map_err(|error| {
            format!("the limit '{name}' could not be set to {value}: {error} (is the machine's own limit lower?)")
        })?;
    }
    Ok(())
}

/// All five sets, and the bits that would bring them back.
fn drop_capabilities(_: &mut Child<'_>) -> Result<(), String> {
    let failed = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    rights::lock_securebits().map_err(failed("the secure bits could not be locked"))?;
    rights::drop_bounding_set().map_err(failed("the bounding set could not be emptied"))?;
    rights::drop_ambient_set().map_err(failed("the ambient set could not be emptied"))?;
    rights::drop_capabilities().map_err(failed("the capabilities could not be dropped"))?;
    match rights::effective_capabilities() {
        Ok(0) => Ok(()),
        Ok(left) => Err(format!("capabilities are left: {left:x}")),
        Err(error) => Err(format!("the capabilities could not be read: {error}")),
    }
}

/// No setuid program and no file capability works from here on.
fn renounce_privileges(_: &mut Child<'_>) -> Result<(), String> {
    sys::set_no_new_privileges().map_err(|error| format!("no_new_privs could not be set: {error}"))
}

fn restrict_by_landlock(child: &mut Child<'_>) -> Result<(), String> {
    landlock::restrict(child.landlock, &Rules::of(child.order), &[PROGRAM])
        .map_err(|error| format!("Landlock could not be put in force: {error}"))
}

fn filter_system_calls(child: &mut Child<'_>) -> Result<(), String> {
    let failed = |error: io::Error| format!("the system call filter could not be installed: {error}");
    seccomp::install(child.filter).map_err(failed)?;
    match child.order.anonymous_programs {
        true => Ok(()),
        false => seccomp::install(&seccomp::closing::memory_files(seccomp::Architecture::NATIVE)).map_err(failed),
    }
}

/// A fresh program without environment: nothing of the launcher's memory or of other orders goes on.
fn become_init(_: &mut Child<'_>) -> Result<(), String> {
    for number in [CHANNEL, PLAN] {
        files::set_close_on_exec(number, false).map_err(|error| format!("descriptor {number}: {error}"))?;
    }
    let error = process::execute_descriptor(files::kept(PROGRAM), &[c"init".into()], &[]);
    Err(format!("the sandbox's first program could not start: {error}"))
}
