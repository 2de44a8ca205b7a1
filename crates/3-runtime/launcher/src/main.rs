//! `agent-os-launch --parent PID`: spawned by the supervisor with a socket as stdin, becomes the worker or says why not.
//!
//! The C library calls it directly. What Rust does before its own `main` is nothing to this program: it looks for the end of
//! the stack in `/proc`, and makes a second stack to say on that the first one is full. A single sandbox would wait for it
//! twice, in its launcher and in its init. What counts of it, that a broken pipe ends nobody, [`agentos_launcher::run`] does.

#![no_main]

use std::ffi::{c_char, c_int};

/// The words are read where the C library has left them for Rust's library, before this.
// SAFETY: no other function of the program has this name, and the C library calls it as it is declared.
#[unsafe(no_mangle)]
extern "C" fn main(_count: c_int, _words: *const *const c_char) -> c_int {
    agentos_launcher::run(std::env::args_os().skip(1)).into()
}
