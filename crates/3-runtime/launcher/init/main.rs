//! The sandbox's first process: starts the program, reaps whatever is left behind, hands termination on, and ends with the
//! program. A fresh program with an empty environment that nobody inside can look into, because it is all that is left of
//! the outside in there.
//!
//! Without the C library, whose start asks the processor some seventy questions: behind a hypervisor that is half a
//! millisecond for each sandbox. `build.rs` builds it and puts it into the launcher.

#![no_std]
#![no_main]
#![no_builtins]

mod calls;
mod memory;
mod plan;
mod report;

use core::{arch::naked_asm, panic::PanicInfo};

use calls::{Error, Setting};
use plan::Plan;
use report::{Failure, Spent};

#[path = "../src/channel/numbers.rs"]
mod numbers;

use numbers::{CHANNEL, PLAN, ROOT};

/// Descriptors of the program; the init itself needs none of them.
const PROGRAM_DESCRIPTORS: core::ops::RangeInclusive<i32> = 0..=3;
const CHILD_ENDED: i32 = 17;
/// Hangup, interrupt, quit, both of the user's, termination. Everything else that the init could be sent is nothing to it.
const HANDED_ON: [i32; 6] = [1, 2, 3, 10, 12, 15];
const AWAITED: u64 = calls::mask(&HANDED_ON) | calls::mask(&[CHILD_ENDED]);
/// Status of a process that could not become what it should; the message on the channel says why.
const EXIT_FAILED: i32 = 126;

/// The kernel starts here, with a stack and nothing else.
// SAFETY: the linker looks for this name, and nothing else has it.
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn _start() -> ! {
    #[cfg(target_arch = "x86_64")]
    naked_asm!("xor ebp, ebp", "and rsp, -16", "call {run}", "ud2", run = sym run);
    #[cfg(target_arch = "aarch64")]
    naked_asm!("mov x29, xzr", "mov x30, xzr", "bl {run}", "brk 0", run = sym run);
}

/// Nothing here indexes, divides or unwraps; the language wants the function all the same.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    calls::end(EXIT_FAILED)
}

extern "C" fn run() -> ! {
    let program = match prepare().and_then(|plan| start(&plan)) {
        Ok(program) => program,
        Err(failure) => fail(failure),
    };
    PROGRAM_DESCRIPTORS.for_each(calls::close);
    attend(program);
    calls::end(0)
}

/// Tells the launcher and ends. A launcher that is gone needs no message.
fn fail(failure: Failure<'_>) -> ! {
    failure.send(CHANNEL);
    calls::end(EXIT_FAILED)
}

fn prepare() -> Result<Plan<'static>, Failure<'static>> {
    let failed = |what: &'static str| move |error: Error| Failure::new("init", what, error);
    calls::set(Setting::Inspection(false)).map_err(failed("the init could not be closed for inspection"))?;
    calls::set(Setting::ParentDeath).map_err(failed("the parent-death signal could not be set"))?;
    if calls::is_hung_up(CHANNEL) {
        return Err(Failure::new("init", "the launcher has ended", 0));
    }
    let block = calls::map_file(PLAN).map_err(failed("the plan could not be read"))?;
    calls::close(PLAN);
    let plan = Plan::read(block).ok_or(Failure::new("init", "the plan is not one", 0))?;
    if cfg!(feature = "walls-left-out") && plan.header.is_open == 1 {
        let _ = calls::set(Setting::Inspection(true));
    }
    calls::set_close_on_exec(CHANNEL).map_err(failed("the channel"))?;
    // Where the back end has no root of its own, there is none.
    let _ = calls::set_close_on_exec(ROOT);
    // Signals wait from here on, so that none is lost between the start of the program and the loop.
    calls::block_signals(u64::MAX).map_err(failed("signals could not be blocked"))?;
    // Where there is no pid namespace, orphans come here all the same.
    calls::set(Setting::AdoptOrphans).map_err(failed("orphans could not be adopted"))?;
    Ok(plan)
}

/// Returns when the program runs, or when it has failed to and has said why.
fn start(plan: &Plan<'static>) -> Result<i32, Failure<'static>> {
    match calls::fork_and_wait_for_exec() {
        Ok(0) => fail(execute(plan)),
        Ok(program) => {
            // After a failure the launcher has the failure already, and takes no notice of this.
            report::started(CHANNEL);
            Ok(program)
        }
        Err(error) => Err(Failure::new("init", "the program's process could not be made", error)),
    }
}

/// In the program's process; returns only the reason why it is not the program.
fn execute(plan: &Plan<'static>) -> Failure<'static> {
    if let Err(error) = calls::set(Setting::ParentDeath) {
        return Failure::new("parent", "the parent-death signal could not be set", error);
    }
    if let Err(error) = calls::start_session() {
        return Failure::new("session", "no new session", error);
    }
    if let Err(error) = calls::change_directory(plan.directory) {
        return Failure::new("directory", "directory ", error).of(plan.directory);
    }
    // What they do is the default since the launcher's stage; nothing in this program ignores or catches one.
    if let Err(error) = calls::block_signals(0) {
        return Failure::new("signals", "signals could not be unblocked", error);
    }
    let program = plan.command().next().unwrap_or_default();
    match place(plan).and_then(|call| become_program(plan, call)) {
        Ok(never) => never,
        Err(error) => Failure::new("execute", "", error).of(program),
    }
}

/// Path, arguments and variables of the call, where the kernel and the filter look for them.
struct Call {
    path: *const u8,
    arguments: *const usize,
    variables: *const usize,
}

/// A filter that refuses `execve` cannot be installed before the program is there, because the program comes by `execve`. So
/// the filter lets exactly one call through: the one whose three pointers lie where nobody can guess. The launcher has drawn
/// the addresses; the memory that holds them is gone with the program that makes the call. In some tens of terabytes there
/// are a few megabytes taken, so that a place that is not free is an error, and one in ten million.
fn place(plan: &Plan<'static>) -> Result<Call, Error> {
    let [path, arguments, variables] = plan.header.places.map(|address| (plan.header.filter > 0).then_some(address));
    let first = plan.command().next().unwrap_or_default();
    let path = match path {
        None => first.as_ptr(),
        Some(address) => {
            let room = calls::room_at(address, first.len())?;
            // SAFETY: the room is new, and long enough for the word.
            unsafe { core::ptr::copy_nonoverlapping(first.as_ptr(), room, first.len()) };
            room
        }
    };
    Ok(Call { path, arguments: list(plan.command(), arguments)?, variables: list(plan.environment(), variables)? })
}

/// The words' addresses, and a null pointer.
fn list(words: impl Iterator<Item = &'static [u8]> + Clone, place: Option<u64>) -> Result<*const usize, Error> {
    let bytes = (words.clone().count() + 1) * size_of::<usize>();
    let room = match place {
        Some(address) => calls::room_at(address, bytes)?,
        None => calls::room(bytes)?,
    };
    // Places are aligned to a word by whoever has drawn them.
    let room: *mut usize = room.cast();
    for (index, word) in words.map(|word| word.as_ptr() as usize).chain([0]).enumerate() {
        // SAFETY: the room has a place for each word and one more.
        unsafe { room.add(index).write(word) };
    }
    Ok(room)
}

fn become_program(plan: &Plan<'_>, call: Call) -> Result<Failure<'static>, Error> {
    if !plan.filter.is_empty() {
        calls::install_filter(plan.filter)?;
    }
    // SAFETY: the words end with NUL and the lists with a null pointer, and nothing of it is ever freed.
    Err(unsafe { calls::execute(call.path, call.arguments, call.variables) })
}

/// Until the program has ended. Whatever else is left then dies with this process.
fn attend(program: i32) {
    let mut spent = Spent::default();
    loop {
        // Ends: every child is reaped once, and none is made here.
        while let Ok(Some(reaped)) = calls::reap() {
            spent.add(&reaped);
            if reaped.process == program {
                return say_last_word(reaped.status, spent);
            }
        }
        match calls::wait_for_signal(AWAITED) {
            Ok(CHILD_ENDED) | Err(_) => {}
            Ok(signal) => {
                // A program that has just ended is reaped in the next round.
                let _ = calls::kill(program, signal);
            }
        }
    }
}

/// Whoever is left without a parent in here comes to this process, so that one without children is alone.
fn say_last_word(status: i32, mut spent: Spent) {
    // Ends: with the last child there is an error, and a child that lives is none.
    loop {
        match calls::reap() {
            Ok(Some(reaped)) => spent.add(&reaped),
            Err(calls::NO_CHILD) => return report::over(CHANNEL, status, spent),
            Ok(None) | Err(_) => return report::ended(CHANNEL, status),
        }
    }
}
