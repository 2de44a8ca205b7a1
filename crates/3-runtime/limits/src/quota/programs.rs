//! Programs of the operating system that make, mount and measure file systems.
//!
//! Loop devices and project quotas are set up by requests to the kernel that need unsafe code, which this crate does not
//! have; the distribution's own programs make them. They are found in the system's directories alone, get an empty
//! environment and nothing from us to read, and are killed when they take too long. They never see a path that an agent chose.

use std::{
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};

use agentos_types::{Code, Fault, Result};

use super::place::RETRY;

/// Where a program of the system may lie. An operator's PATH does not decide what root runs.
const DIRECTORIES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
/// A megabyte of metadata takes milliseconds; a minute is a disk that hangs.
const SECONDS_MAX: i64 = 60;
/// What is kept of a program's words.
const WORDS_BYTES_MAX: u64 = 4096;

/// Where the programs are looked for: the system's directories, or one that a test has made.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    directories: Vec<PathBuf>,
}

impl Programs {
    pub(crate) fn of_the_system() -> Self {
        Self { directories: DIRECTORIES.iter().map(PathBuf::from).collect() }
    }

    #[cfg(test)]
    pub(crate) fn in_directory(directory: &Path) -> Self {
        Self { directories: vec![directory.to_owned()] }
    }

    pub(crate) fn find(&self, name: &str) -> Option<PathBuf> {
        self.directories.iter().map(|directory| directory.join(name)).find(|path| path.is_file())
    }

    /// Runs the program to its end. What it says on standard error is the detail of the fault.
    pub(crate) fn run(&self, name: &str, arguments: &[&str]) -> Result<()> {
        self.end_of(name, arguments, Stdio::null()).map(drop)
    }

    /// The same, and what it says on standard output: a few words, which its pipe holds.
    pub(crate) fn ask(&self, name: &str, arguments: &[&str]) -> Result<String> {
        let mut child = self.end_of(name, arguments, Stdio::piped())?;
        Ok(words(child.stdout.take()))
    }

    fn end_of(&self, name: &str, arguments: &[&str], output: Stdio) -> Result<Child> {
        let failed = |why: String| {
            Fault::new(Code::WORKSPACE_UNAVAILABLE, format!("{name}, which makes workspaces, did not succeed"))
                .detail(why)
                // A disk that is full, a loop device that is taken: which, only its words know.
                .retry_after(RETRY)
        };
        let program = self.find(name).ok_or_else(|| {
            Fault::new(Code::WORKSPACE_UNAVAILABLE, format!("{name}, which makes workspaces, is not installed"))
                .hint(format!("install {name}; agent-os doctor says what workspaces need"))
        })?;
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            // The programs of file systems look for others of their kind.
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| failed(source.to_string()))?;
        let in_time = wait(&child);
        if !in_time {
            // An error means that it has just ended.
            let _ = child.kill();
        }
        let status = child.wait().map_err(|source| failed(source.to_string()))?;
        match (in_time, status.success()) {
            (true, true) => Ok(child),
            (true, false) => {
                Err(failed(format!("{name} {}: {status}: {}", arguments.join(" "), words(child.stderr.take()))))
            }
            (false, _) => Err(failed(format!("{name} {}: not done after {SECONDS_MAX} s", arguments.join(" ")))),
        }
    }
}

/// Whether it ended in time.
fn wait(child: &Child) -> bool {
    let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return false };
    let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty()) else {
        // A kernel before 5.3: then it is waited for as long as it takes.
        return true;
    };
    let limit = Timespec { tv_sec: SECONDS_MAX, tv_nsec: 0 };
    loop {
        match poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&limit)) {
            Ok(ready) => return ready > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

fn words(stream: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        // What could be read is better than nothing.
        let _ = stream.take(WORDS_BYTES_MAX).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).trim().replace('\n', "; ")
}

/// A path as an argument. One that is not text cannot be one.
pub(crate) fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| {
        Fault::new(Code::WORKSPACE_UNAVAILABLE, "the path of a workspace is not UTF-8").detail(path.display())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, arguments: &[&str], expected: &str) {
        let outcome = Programs::of_the_system().run(name, arguments).map_err(|fault| {
            let may_succeed_later = fault.retry_after.is_some();
            assert_eq!(may_succeed_later, !fault.message.contains("not installed"), "{fault}");
            fault.detail.unwrap_or(fault.message)
        });
        match outcome {
            Ok(()) => assert_eq!(expected, ""),
            Err(detail) => assert!(!expected.is_empty() && detail.contains(expected), "{detail}"),
        }
    }

    #[test]
    fn a_program_succeeds_fails_with_its_words_or_is_missing() {
        check("true", &[], "");
        check("false", &[], "exit status: 1");
        check("ls", &["/nothing/here"], "No such file");
        check("no-such-program", &[], "not installed");
        check("env", &["sh", "-c", "test -z \"$HOME$USER$CARGO_MANIFEST_DIR\""], "");
    }
}
