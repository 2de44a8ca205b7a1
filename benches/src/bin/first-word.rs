//! What runs inside of the benches' sandboxes: the smallest program that says it is there, and four that misbehave.
//!
//! `idle` says `ready` and answers each line with itself; `cpu`, `memory`, `fork` and `disk` take all they can get, until they
//! are killed. Linked statically, so that what is measured is the sandbox and not the loader of libraries.

use std::{
    fs::OpenOptions,
    io::{self, BufRead, Write},
    process::{Command, ExitCode, Stdio},
};

const CHUNK_BYTES: usize = 1 << 20;

fn main() -> ExitCode {
    let kind = std::env::args().nth(1).unwrap_or_default();
    let outcome = match kind.as_str() {
        "idle" => idle(),
        "cpu" => said_ready().and_then(|()| cpu()),
        "memory" => said_ready().and_then(|()| memory()),
        "fork" => said_ready().and_then(|()| fork()),
        "hog" => hog(),
        "leaf" => fork(),
        "disk" => said_ready().and_then(|()| disk()),
        _ => Err(io::Error::other("idle, cpu, memory, fork or disk")),
    };
    ExitCode::from(u8::from(outcome.is_err()))
}

fn said_ready() -> io::Result<()> {
    let mut out = io::stdout();
    out.write_all(b"ready\n")?;
    out.flush()
}

fn idle() -> io::Result<()> {
    said_ready()?;
    let mut out = io::stdout();
    for line in io::stdin().lock().lines() {
        writeln!(out, "{}", line?)?;
        out.flush()?;
    }
    Ok(())
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
        for name in 0..64 {
            let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(format!("bomb-{name}"))?;
            for _ in 0..8 {
                // A full workspace is where the next file begins.
                if file.write_all(&chunk).and_then(|()| file.sync_data()).is_err() {
                    break;
                }
            }
        }
    }
}
