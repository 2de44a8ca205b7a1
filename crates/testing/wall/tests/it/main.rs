//! Everything runs on the real launcher.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests fail by panicking and say what they have seen"
)]

mod escape;
mod programs;

/// The half of each test that root starts is left out, because somebody who knows said so: `make test`, with a warning. Who is not
/// root and has not said it fails.
fn is_without_root() -> bool {
    let is_said = std::env::var_os("AGENTOS_WITHOUT_ROOT").is_some();
    assert!(is_said || rustix::process::geteuid().is_root(), "run it as root, or with AGENTOS_WITHOUT_ROOT=1");
    is_said
}
