//! The sandbox's first process: starts the program, reaps whatever is left behind, hands termination on, and ends with the
//! program. A fresh program with an empty environment that nobody inside can look into, because it is all that is left of
//! the outside in there.

use agentos_protocol::sandbox::Profile;

use crate::{
    channel::{CHANNEL, Message, PLAN, ROOT, Spent},
    child::{self, die_with_parent, still_wanted},
    left_out,
    order::Plan,
    seccomp,
    sys::{
        self, files, packets,
        process::{self, Status},
    },
};

/// What the order's limits allow is far below; the launcher writes the plan.
const PLAN_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Descriptors of the program; the init itself needs none of them.
const PROGRAM_DESCRIPTORS: std::ops::RangeInclusive<i32> = 0..=3;
/// Handed on to the program. Everything else that the init could be sent is nothing to it.
const HANDED_ON: [i32; 6] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2];

/// Returns the status to exit with.
pub fn run(profile: Profile) -> u8 {
    let program = match prepare().and_then(|plan| start(profile, &plan)) {
        Ok(program) => program,
        Err(message) => child::fail("init", message),
    };
    PROGRAM_DESCRIPTORS.for_each(files::close);
    // A launcher that is gone needs no message, and this process does not outlive it.
    let _ = packets::send(CHANNEL, &attend(program).encode(), &[], true);
    crate::EXIT_GOOD
}

fn prepare() -> Result<Plan, String> {
    if !left_out::is("init") {
        process::forbid_inspection()
            .map_err(|error| format!("the init could not be closed for inspection: {error}"))?;
    }
    die_with_parent()?;
    still_wanted()?;
    // Where the back end has no root of its own, there is none.
    let root = files::is_open(ROOT).then_some(ROOT);
    for number in [CHANNEL, PLAN].into_iter().chain(root) {
        files::set_close_on_exec(number, true).map_err(|error| format!("descriptor {number}: {error}"))?;
    }
    // Signals wait from here on, so that none is lost between the start of the program and the loop.
    process::block_all_signals().map_err(|error| format!("signals could not be blocked: {error}"))?;
    // Where there is no pid namespace, orphans come here all the same.
    process::adopt_orphans().map_err(|error| format!("orphans could not be adopted: {error}"))?;
    let plan = read_plan()?;
    files::close(PLAN);
    Ok(plan)
}

fn read_plan() -> Result<Plan, String> {
    let bytes = files::read_whole(files::kept(PLAN), PLAN_BYTES_MAX)
        .map_err(|error| format!("the plan could not be read: {error}"))?;
    Plan::decode(&bytes).ok_or_else(|| "the plan is not one".into())
}

/// Returns when the program runs, or when it has failed to and has said why.
fn start(profile: Profile, plan: &Plan) -> Result<i32, String> {
    match process::fork_and_wait_for_exec() {
        Ok(0) => {
            let (stage, message) = execute(profile, plan);
            child::fail(stage, message)
        }
        Ok(program) => {
            // After a failure the launcher has the failure already, and takes no notice of this.
            let _ = packets::send(CHANNEL, &Message::Started.encode(), &[], true);
            Ok(program)
        }
        Err(error) => Err(format!("the program's process could not be made: {error}")),
    }
}

/// In the program's process; returns only the reason why it is not the program.
fn execute(profile: Profile, plan: &Plan) -> (&'static str, String) {
    if let Err(message) = die_with_parent() {
        return ("parent", message);
    }
    if let Err(error) = sys::start_session() {
        return ("session", format!("no new session: {error}"));
    }
    if let Err(error) = sys::change_directory(&plan.directory) {
        return ("directory", format!("directory {}: {error}", plan.directory.to_string_lossy()));
    }
    // What they do is the default since the launcher's stage; nothing in this program ignores or catches one.
    if let Err(error) = sys::unblock_all_signals() {
        return ("signals", format!("signals could not be unblocked: {error}"));
    }
    let error = seccomp::closing::execute(profile, &plan.command, &plan.environment);
    let program = plan.command.first().map(|word| word.to_string_lossy()).unwrap_or_default();
    let cause = match error.raw_os_error() {
        Some(libc::ENOENT) => " (the file or the interpreter in its first line is missing)",
        Some(libc::EACCES) => " (not an executable file, or a directory above it is closed)",
        Some(libc::ENOEXEC) => " (neither a program for this machine nor a script with an interpreter line)",
        _ => "",
    };
    ("execute", format!("{program}: {error}{cause}"))
}

/// Until the program has ended. Whatever else is left then dies with this process.
fn attend(program: i32) -> Message {
    let signals: Vec<i32> = HANDED_ON.into_iter().chain([libc::SIGCHLD]).collect();
    let mut spent = Spent::default();
    loop {
        // Ends: every child is reaped once, and none is made here.
        while let Ok(Some(reaped)) = process::reap(-1, false) {
            spent.add(&reaped);
            if reaped.pid == program {
                return last_word(reaped.status, spent);
            }
        }
        match process::wait_for_signal(&signals) {
            Ok(libc::SIGCHLD) | Err(_) => {}
            Ok(signal) => {
                // A program that has just ended is reaped in the next round.
                let _ = process::kill(program, signal);
            }
        }
    }
}

/// Whoever is left without a parent in here comes to this process, so that one without children is alone.
fn last_word(status: Status, mut spent: Spent) -> Message {
    // Ends: with the last child there is an error, and a child that lives is none.
    loop {
        match process::reap(-1, false) {
            Ok(Some(reaped)) => spent.add(&reaped),
            Ok(None) => return Message::Ended(status),
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Message::Over { status, spent },
            Err(_) => return Message::Ended(status),
        }
    }
}
