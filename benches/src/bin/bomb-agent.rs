//! An agent that lights a bomb: a task `{"bomb": KIND}` starts this program once more, as `cpu`, `memory`, `fork` or `disk`,
//! and is done once that has begun. It takes all it can get until it is killed. The worker itself goes on in good order, so
//! that nothing but the walls holds what it has started.

use std::{
    fs::OpenOptions,
    io::{self, BufRead, BufReader, Write},
    process::{Child, ChildStdout, Command, ExitCode, Stdio},
    sync::Mutex,
};

use agentos_sdk::{TaskContext, TaskError, Value, json};

const CHUNK_BYTES: usize = 1 << 20;

/// Kept until the end of this life, and its output with it: a pipe without a reader would end the bomb.
static LIT: Mutex<Vec<(Child, BufReader<ChildStdout>)>> = Mutex::new(Vec::new());

fn main() -> ExitCode {
    let outcome = match std::env::args().nth(1).as_deref() {
        None => worker(),
        Some("cpu") => said_ready().and_then(|()| cpu()),
        Some("memory") => said_ready().and_then(|()| memory()),
        Some("fork") => said_ready().and_then(|()| fork()),
        Some("disk") => said_ready().and_then(|()| disk()),
        Some("hog") => hog(),
        Some("leaf") => fork(),
        Some(other) => Err(io::Error::other(format!("there is no bomb {other}"))),
    };
    ExitCode::from(u8::from(outcome.is_err()))
}

fn worker() -> io::Result<()> {
    clear();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = agentos_sdk::run(|_: TaskContext, input: Value| async move { light(&input) });
    runtime.block_on(served).map_err(io::Error::other)
}

/// The workspace outlives the bomb, and what an earlier life has filled leaves the next one nothing to fill.
fn clear() {
    for name in names() {
        // Not there before the first life.
        let _ = std::fs::remove_file(name);
    }
}

/// Of what a bomb writes.
fn names() -> impl Iterator<Item = String> {
    (0..64).map(|number| format!("bomb-{number}"))
}

fn light(input: &Value) -> Result<Value, TaskError> {
    let kind = input["bomb"].as_str().ok_or_else(|| TaskError::permanent("the input names no bomb"))?;
    let lit = start(kind).map_err(|error| TaskError::permanent(format!("bomb {kind}: {error}")))?;
    let mut all = LIT.lock().map_err(|error| TaskError::permanent(error.to_string()))?;
    all.push(lit);
    Ok(json!({"lit": kind}))
}

/// Returns when it has begun.
fn start(kind: &str) -> io::Result<(Child, BufReader<ChildStdout>)> {
    let mut command = Command::new(std::env::current_exe()?);
    let mut child = command.arg(kind).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().ok_or_else(|| io::Error::other("it has no output"))?;
    let mut output = BufReader::new(output);
    let mut word = String::new();
    output.read_line(&mut word)?;
    match word == "ready\n" {
        true => Ok((child, output)),
        false => Err(io::Error::other(format!("it says '{word}'"))),
    }
}

fn said_ready() -> io::Result<()> {
    let mut out = io::stdout();
    out.write_all(b"ready\n")?;
    out.flush()
}

/// One thread for each core and one more.
fn cpu() -> io::Result<()> {
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    for _ in 0..threads {
        std::thread::spawn(spin);
    }
    spin();
    Ok(())
}

fn spin() {
    let mut number = 0_u64;
    // Until it is killed: that is what is measured.
    loop {
        number = std::hint::black_box(number.wrapping_mul(31).wrapping_add(7));
    }
}

/// Touched, or it would be no memory. Whoever takes it is killed for it, so a child does, over and over.
fn memory() -> io::Result<()> {
    let own = std::env::current_exe()?;
    loop {
        let mut child = Command::new(&own).arg("hog").stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        child.wait()?;
    }
}

fn hog() -> io::Result<()> {
    let mut held: Vec<Vec<u8>> = Vec::new();
    loop {
        held.push(vec![0x5a; CHUNK_BYTES]);
        std::hint::black_box(&held);
    }
}

/// Each one makes two more and stays.
fn fork() -> io::Result<()> {
    let own = std::env::current_exe()?;
    loop {
        for _ in 0..2 {
            // Refused when the limit is reached; then it tries again, as a bomb does.
            drop(Command::new(&own).arg("leaf").stdin(Stdio::null()).stdout(Stdio::null()).spawn());
        }
        std::thread::yield_now();
    }
}

/// Writes and syncs, in files of the workspace, over and over.
fn disk() -> io::Result<()> {
    let chunk = vec![0x5a; CHUNK_BYTES];
    loop {
        for name in names() {
            let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(name)?;
            for _ in 0..8 {
                // A full workspace is where the next file begins.
                if file.write_all(&chunk).and_then(|()| file.sync_data()).is_err() {
                    break;
                }
            }
        }
    }
}
