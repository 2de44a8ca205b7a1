//! What happens between the order and the worker, as one list. A new wall (namespaces, Landlock, a system call filter) is a
//! function here and a row in [`STAGES`], at the place where its rights are still there and its predecessors are done.

use std::{fs, io};

use crate::{single::order::Order, sys};

/// One step. It may move the socket to another descriptor; on failure it says why, in one sentence.
#[derive(Debug)]
pub struct Stage {
    pub name: &'static str,
    pub run: fn(&Order, &mut i32) -> Result<(), String>,
}

/// Carried out from top to bottom; the first failure ends the launch.
pub const STAGES: &[Stage] = &[
    Stage { name: "session", run: start_session },
    Stage { name: "signals", run: reset_signals },
    Stage { name: "scheduling", run: reset_scheduling },
    Stage { name: "memory-victim", run: volunteer_for_oom },
    Stage { name: "directory", run: enter_directory },
    Stage { name: "descriptors", run: keep_four_descriptors },
    Stage { name: "limits", run: set_limits },
    Stage { name: "privileges", run: renounce_privileges },
    Stage { name: "execute", run: execute },
];

/// Raised so that the kernel ends an agent before it ends the supervisor when memory runs out.
const OOM_SCORE_ADJUSTMENT: i32 = 500;

/// A session of its own: no controlling terminal, and a process group that can be killed as one.
fn start_session(_: &Order, _: &mut i32) -> Result<(), String> {
    match sys::start_session() {
        Ok(()) => Ok(()),
        Err(_) if sys::leads_session() => Ok(()),
        Err(error) => Err(format!("no new session: {error}; the launcher must not be a process group leader")),
    }
}

/// An ignored or blocked signal survives `execve`: a worker that ignores SIGPIPE or SIGTERM is not what its author tested.
fn reset_signals(_: &Order, _: &mut i32) -> Result<(), String> {
    sys::default_all_signals();
    sys::unblock_all_signals().map_err(|error| format!("signals could not be unblocked: {error}"))
}

/// A supervisor with raised priority does not hand it down. CPU affinity stays: it is the operator's choice of cores.
fn reset_scheduling(_: &Order, _: &mut i32) -> Result<(), String> {
    sys::use_normal_scheduling().map_err(|error| format!("normal scheduling could not be restored: {error}"))?;
    sys::reset_io_priority();
    match sys::nice_level() {
        0 => Ok(()),
        level => match sys::set_nice_level(0) {
            // A server that runs at lowered priority without privileges keeps its agents there too.
            Err(_) if level > 0 => Ok(()),
            outcome => outcome.map_err(|error| format!("nice level {level} could not be reset: {error}")),
        },
    }
}

/// Best effort: without /proc the worker runs all the same, only the kernel's choice under memory pressure is worse.
fn volunteer_for_oom(_: &Order, _: &mut i32) -> Result<(), String> {
    const PATH: &str = "/proc/self/oom_score_adj";
    let present = fs::read_to_string(PATH).ok().and_then(|text| text.trim().parse::<i32>().ok());
    if present.is_some_and(|score| score < OOM_SCORE_ADJUSTMENT) {
        let _ = fs::write(PATH, OOM_SCORE_ADJUSTMENT.to_string());
    }
    Ok(())
}

fn enter_directory(order: &Order, _: &mut i32) -> Result<(), String> {
    sys::set_file_mask(0o077);
    sys::change_directory(&order.directory)
        .map_err(|error| format!("directory {}: {error}", order.directory.to_string_lossy()))
}

/// The worker gets /dev/null, its two pipes and the socket, and no descriptor that anybody forgot to close.
fn keep_four_descriptors(_: &Order, channel: &mut i32) -> Result<(), String> {
    let failed = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    sys::duplicate(*channel, agentos_protocol::WORKER_FD).map_err(failed("the socket could not be moved"))?;
    *channel = agentos_protocol::WORKER_FD;
    sys::null_stdin().map_err(failed("/dev/null could not become stdin"))?;
    sys::close_from(agentos_protocol::WORKER_FD + 1).map_err(failed("inherited descriptors could not be closed"))
}

/// Hard and soft limit alike, so that the worker cannot raise them.
fn set_limits(order: &Order, _: &mut i32) -> Result<(), String> {
    let limits = &order.limits;
    let mut rows = vec![
        ("core dump size", sys::Resource::Core, 0),
        ("file size", sys::Resource::FileSize, limits.file_bytes),
        ("open files", sys::Resource::OpenFiles, limits.open_files),
        ("address space", sys::Resource::AddressSpace, limits.memory_bytes),
    ];
    if limits.cpu_seconds > 0 {
        rows.push(("CPU seconds", sys::Resource::CpuSeconds, limits.cpu_seconds));
    }
    for (name, resource, value) in rows {
        sys::set_limit(resource, value).map_err(|error| {
            format!("the limit '{name}' could not be set to {value}: {error} (is the machine's own limit lower?)")
        })?;
    }
    Ok(())
}

/// No setuid program and no file capability works for the worker or its children from here on.
fn renounce_privileges(_: &Order, _: &mut i32) -> Result<(), String> {
    sys::set_no_new_privileges().map_err(|error| format!("no_new_privs could not be set: {error}"))
}

fn execute(order: &Order, _: &mut i32) -> Result<(), String> {
    let error = sys::execute(&order.command, &order.environment);
    let program = order.command.first().map(|word| word.to_string_lossy()).unwrap_or_default();
    let cause = match error.raw_os_error() {
        Some(libc::ENOENT) => " (the file or the interpreter in its first line is missing)",
        Some(libc::EACCES) => " (not an executable file, or a directory above it is closed)",
        Some(libc::ENOEXEC) => " (neither a program for this machine nor a script with an interpreter line)",
        _ => "",
    };
    Err(format!("{program}: {error}{cause}"))
}
