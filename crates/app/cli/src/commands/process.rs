//! `down`: ends the server of a data directory by signal, so that it also works when its gateway does not answer.
//!
//! A process number may have been given to somebody else since the file was written. The process is therefore held by a
//! descriptor first and identified after that; the signal goes to the descriptor, which can never mean another process.

use std::{fs, io, os::fd::OwnedFd, path::Path, time::Duration};

use agentos_types::{Code, Fault, Result};
use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use tokio::io::{Interest, unix::AsyncFd};

use super::Session;
use crate::{
    PROGRAM,
    args::Down,
    exit::{Exit, Outcome, local},
    server_file::ServerFile,
};

pub(super) async fn down(session: &mut Session<'_>, args: &Down) -> Outcome {
    let data_dir = session.data_dir()?;
    let Some(server) = ServerFile::load(&data_dir)? else {
        session.printer.note(&format!("no server runs for the data directory {}", data_dir.display()));
        return Ok(Exit::Success);
    };
    match hold(server.pid)? {
        None => session.printer.note("the server had already ended without removing its server.json"),
        Some(process) => {
            pidfd_send_signal(&process, Signal::TERM)
                .map_err(|error| local(format!("process {} cannot be signalled", server.pid), error))?;
            wait_for_end(process, server.pid, args.timeout).await?;
            session.printer.note(&format!("stopped process {}", server.pid));
        }
    }
    server.remove(&data_dir)?;
    Ok(Exit::Success)
}

/// The process if it runs and is a server of ours; `None` when the number is free or belongs to another program.
fn hold(pid: u32) -> Result<Option<OwnedFd>> {
    let Some(number) = i32::try_from(pid).ok().filter(|number| *number > 1).and_then(Pid::from_raw) else {
        return Ok(None);
    };
    if pid == std::process::id() {
        return Ok(None);
    }
    let process = match pidfd_open(number, PidfdFlags::NONBLOCK) {
        Err(Errno::SRCH) => return Ok(None),
        process => process.map_err(|error| local(format!("process {pid} cannot be watched"), error))?,
    };
    match fs::read_link(format!("/proc/{pid}/exe")) {
        Ok(program) => Ok(is_ours(&program).then_some(process)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(local(format!("process {pid} cannot be identified"), error)
            .hint("run the command as the user who started the server")),
    }
}

/// An upgrade may have replaced the file under a running server; the kernel then adds a word to its name.
fn is_ours(program: &Path) -> bool {
    let name = program.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.strip_suffix(" (deleted)").unwrap_or(name) == PROGRAM
}

async fn wait_for_end(process: OwnedFd, pid: u32, timeout: Duration) -> Result<()> {
    let watch = |error: io::Error| local(format!("process {pid} cannot be watched"), error);
    let process = register(process).map_err(watch)?;
    match tokio::time::timeout(timeout, process.readable()).await {
        Ok(ended) => ended.map(drop).map_err(watch),
        Err(_) => Err(Fault::new(
            Code::INTERNAL,
            format!("process {pid} was asked to stop and still runs after {} s", timeout.as_secs()),
        )
        .hint("wait longer with --timeout, or look at the server's log")),
    }
}

#[expect(deprecated, reason = "its successor is unsafe; an OwnedFd upholds what that one asks for")]
fn register(process: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(process, Interest::READABLE)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, path::PathBuf, process::Command};

    use super::*;

    /// A program of the given name that sleeps.
    fn sleeper(directory: &Path, name: &str) -> PathBuf {
        let program = directory.join(name);
        fs::copy("/bin/sleep", &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        program
    }

    #[tokio::test]
    async fn only_a_program_of_ours_is_held_and_ended() {
        let directory = tempfile::tempdir().unwrap();
        for (name, ours) in [(PROGRAM, true), ("agent-os-other", false), ("postgres", false)] {
            let mut child = Command::new(sleeper(directory.path(), name)).arg("600").spawn().unwrap();
            let held = hold(child.id()).unwrap();
            assert_eq!(held.is_some(), ours, "{name}");
            if let Some(process) = held {
                pidfd_send_signal(&process, Signal::TERM).unwrap();
                wait_for_end(process, child.id(), Duration::from_secs(60)).await.unwrap();
            }
            let _ = child.kill();
            child.wait().unwrap();
            assert!(hold(child.id()).unwrap().is_none(), "an ended process is nobody");
        }
    }

    #[tokio::test]
    async fn a_server_that_does_not_stop_is_reported() {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new(sleeper(directory.path(), PROGRAM)).arg("600").spawn().unwrap();
        let process = hold(child.id()).unwrap().unwrap();
        let fault = wait_for_end(process, child.id(), Duration::ZERO).await.unwrap_err();
        assert!(fault.message.contains("still runs"), "{fault}");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn numbers_that_mean_nobody_or_ourselves() {
        for pid in [0, 1, u32::MAX, i32::MAX as u32, std::process::id()] {
            assert!(hold(pid).unwrap().is_none(), "{pid}");
        }
        assert!(is_ours(Path::new("/usr/bin/agent-os (deleted)")));
        assert!(!is_ours(Path::new("/usr/bin/agent-os-launch")) && !is_ours(Path::new("/")));
    }
}
