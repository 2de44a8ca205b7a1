//! The launcher: the program that makes sandboxes.
//!
//! The server is large and multi-threaded, so it must not fork and then run its own code in the child. It spawns this small
//! single-threaded program once for each [`agentos_protocol::sandbox::Profile`], with a SOCK_SEQPACKET socket as descriptor
//! 0. For each order the launcher clones a child ([`serve`]), which puts up the walls around itself in the order of
//! [`child::stages`], and becomes the sandbox's first process ([`init`], a program of its own), which starts the program. Nobody trusts an
//! environment or an inherited descriptor, and an order is read as if an enemy had written it ([`order`]).
//!
//! Everything dies with its parent: the program with its init, the init with the launcher, the launcher with the server.
//!
//! What the server must know: the kernel sends the parent-death signal when the *thread* that spawned the launcher ends, so
//! it spawns from a thread that lives as long as the launcher should.

pub mod arguments;
pub mod channel;
pub mod child;
pub mod init;
pub mod landlock;
pub mod layers;
pub mod left_out;
pub mod order;
pub mod seccomp;
pub mod serve;
pub mod sys;

use std::{ffi::OsString, io::Write};

use arguments::Mode;

/// A launcher that could not serve: wrong arguments, dead parent, no socket.
pub const EXIT_NOT_SERVING: u8 = 125;
const EXIT_GOOD: u8 = 0;

/// Why a program does not run: what was being done, and what was wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub stage: &'static str,
    pub message: String,
}

/// Returns the status to exit with.
pub fn run(arguments: impl Iterator<Item = OsString>) -> u8 {
    let words: Vec<OsString> = arguments.collect();
    #[cfg(feature = "walls-left-out")]
    let words = {
        let mut words = words;
        left_out::take(&mut words);
        words
    };
    let mode = arguments::parse(&words);
    // Only who serves: what the others become would inherit it.
    if matches!(mode, Mode::Serve(_) | Mode::Version) {
        sys::ignore_broken_pipes();
    }
    let failure = match mode {
        Mode::Inside(inside) => child::bwrap::run_inside(inside),
        Mode::Version => {
            let _ = writeln!(std::io::stdout(), "agent-os-launch {}", env!("CARGO_PKG_VERSION"));
            return EXIT_GOOD;
        }
        Mode::Nothing => return EXIT_GOOD,
        Mode::Serve(options) => match serve::run(&options) {
            Ok(()) => return EXIT_GOOD,
            Err(failure) => failure,
        },
        Mode::Wrong(message) => Failure { stage: "usage", message },
    };
    // Nobody is left to tell if stderr fails as well; the exit status still says it.
    let _ = writeln!(std::io::stderr(), "agent-os-launch: {}: {}", failure.stage, failure.message);
    EXIT_NOT_SERVING
}
