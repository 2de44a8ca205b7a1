//! The sandbox's first process between its clone and its `execve`: it puts up the walls around itself, one stage after the
//! other, and then becomes the init. It runs in a copy of the launcher's memory, and never returns.

pub mod bwrap;
pub mod devices;
mod identity;
pub(crate) mod mounts;
mod network;
mod place;
mod proc;
mod stages;

use std::{
    ffi::CStr,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

use agentos_protocol::sandbox::{Descriptor, Profile, SandboxOrder};
use libc::sock_filter;

use crate::{
    channel::{self, CHANNEL, FIRST_FREE, ORDER, PLAN, PROGRAM, STDERR},
    landlock::Abi,
    left_out,
    sys::{self, files, mount::Tree, packets, process},
};

pub use identity::{die_with_parent, still_wanted};
pub use mounts::copy;
pub use stages::{BWRAP_INSIDE, BWRAP_OUTSIDE, NATIVE, NONE, Run, Stage, should_volunteer};

/// Status of a process that could not become what it should; the message on the channel says why.
const EXIT_FAILED: i32 = 126;

/// Everything that the stages need. The order has been checked.
#[derive(Debug)]
pub struct Child<'a> {
    pub order: &'a SandboxOrder,
    pub profile: Profile,
    pub filter: &'a [sock_filter],
    pub landlock: Abi,
    /// The user of this process inside: its own number outside if nothing maps it.
    pub user: User,
    /// Trees that the launcher has copied with rights that this process does not have, one for each bind of the order, in
    /// that order. Empty: this process copies them by itself.
    pub trees: Vec<Tree>,
    pub volunteers_for_oom: bool,
    /// A copy of the launcher's folder of devices, if it has one.
    pub devices: Option<Tree>,
    /// Its launcher has taken off every mask of processors.
    pub has_all_processors: bool,
    /// The launcher has made the init's program, and this process has it.
    pub has_init: bool,
    /// Where the launcher's own program is.
    pub program: &'a CStr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// Mapped to somebody else by a launcher with the right to do so.
    Other,
    /// The launcher's own.
    Own,
}

/// What a child is born with, sorted into the numbers where everybody looks for it.
#[derive(Debug)]
pub struct Belongings<'a> {
    pub channel: OwnedFd,
    pub plan: BorrowedFd<'a>,
    pub init: Option<BorrowedFd<'a>>,
    pub given: &'a [(Descriptor, OwnedFd)],
    pub hand_over: Option<HandOver<'a>>,
}

/// For a back end that starts this program anew.
#[derive(Debug)]
pub struct HandOver<'a> {
    pub order: BorrowedFd<'a>,
    /// What the back end itself prints.
    pub complaints: BorrowedFd<'a>,
}

/// Puts up the walls. The launcher's end of the channel is closed already.
pub fn run(stages: &[&[Stage]], child: &mut Child<'_>) -> ! {
    for stage in stages.iter().copied().flatten() {
        let run = left_out::instead(stage).unwrap_or(stage.run);
        if let Err(message) = run(child) {
            fail(stage.name, message);
        }
    }
    fail("execute", "the last stage returned".into())
}

/// Tells the launcher and ends. A launcher that is gone needs no message.
pub fn fail(stage: &str, message: String) -> ! {
    let _ = packets::send(CHANNEL, &channel::failed(stage, &message), &[], true);
    process::end(EXIT_FAILED)
}

/// Descriptors 0 to 6 as everybody expects them, `keep` besides, and nothing else. What is closed here belongs to objects of
/// the launcher's memory, of which this is a copy that nobody drops.
pub fn sort<'a>(belongings: Belongings<'_>, keep: impl Iterator<Item = &'a Tree>) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("the descriptors could not be sorted: {error}");
    files::copy_to(belongings.channel.as_raw_fd(), CHANNEL, false).map_err(failed)?;
    files::copy_to(belongings.plan.as_raw_fd(), PLAN, false).map_err(failed)?;
    match belongings.init {
        Some(init) => files::copy_to(init.as_raw_fd(), PROGRAM, true).map_err(failed)?,
        None => files::close(PROGRAM),
    }
    let given = |wanted: Descriptor| belongings.given.iter().find(|(kind, _)| *kind == wanted).map(|(_, fd)| fd);
    let null = files::open(c"/dev/null", libc::O_RDWR).map_err(|error| format!("/dev/null: {error}"))?;
    for (number, kind) in [(0, Descriptor::Stdin), (1, Descriptor::Stdout), (2, Descriptor::Stderr)] {
        files::copy_to(given(kind).unwrap_or(&null).as_raw_fd(), number, false).map_err(failed)?;
    }
    match given(Descriptor::Channel) {
        Some(channel) => {
            files::copy_to(channel.as_raw_fd(), agentos_protocol::WORKER_FD, false).map_err(failed)?;
            // The server's runtime may have left it non-blocking; a program starts with a blocking one.
            sys::set_blocking(agentos_protocol::WORKER_FD).map_err(failed)?;
        }
        None => files::close(agentos_protocol::WORKER_FD),
    }
    let mut first = PROGRAM + 1;
    if let Some(hand_over) = belongings.hand_over {
        files::copy_to(hand_over.order.as_raw_fd(), ORDER, false).map_err(failed)?;
        files::copy_to(libc::STDERR_FILENO, STDERR, false).map_err(failed)?;
        files::copy_to(hand_over.complaints.as_raw_fd(), libc::STDERR_FILENO, false).map_err(failed)?;
        first = STDERR + 1;
    }
    let mut kept: Vec<i32> = keep.map(|tree| tree.as_fd().as_raw_fd()).filter(|number| *number >= FIRST_FREE).collect();
    kept.sort_unstable();
    for number in kept {
        files::close_between(first, number - 1).map_err(failed)?;
        first = number + 1;
    }
    files::close_between(first, i32::MAX).map_err(failed)?;
    // Closed above, by number.
    std::mem::forget((belongings.channel, null));
    Ok(())
}
