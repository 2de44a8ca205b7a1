//! What runs inside of the benches' sandboxes: the smallest program that says it is there.
//!
//! `idle` says `ready` and answers each line with itself, until its input ends. Linked statically, so that what is measured is
//! the sandbox and not the loader of libraries.

use std::{
    io::{self, BufRead, Write},
    process::ExitCode,
};

fn main() -> ExitCode {
    let outcome = match std::env::args().nth(1).as_deref() {
        Some("idle") => idle(),
        _ => Err(io::Error::other("idle is all that it can do")),
    };
    ExitCode::from(u8::from(outcome.is_err()))
}

fn idle() -> io::Result<()> {
    let mut out = io::stdout();
    out.write_all(b"ready\n")?;
    out.flush()?;
    for line in io::stdin().lock().lines() {
        writeln!(out, "{}", line?)?;
        out.flush()?;
    }
    Ok(())
}
