//! libFuzzer's program: runs the one target that AGENTOS_FUZZ_TARGET names. What the targets promise is in
//! `crates/testing/fuzz`; this knows nothing of it.

#![no_main]

use std::sync::OnceLock;

use agentos_fuzz::{TARGETS, Target};
use libfuzzer_sys::fuzz_target;

static CHOSEN: OnceLock<&Target> = OnceLock::new();

fn chosen() -> &'static Target {
    let name = std::env::var("AGENTOS_FUZZ_TARGET").unwrap_or_default();
    let known: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("AGENTOS_FUZZ_TARGET is one of {known:?}"))
}

fuzz_target!(|data: &[u8]| {
    (CHOSEN.get_or_init(chosen).run)(data);
});
