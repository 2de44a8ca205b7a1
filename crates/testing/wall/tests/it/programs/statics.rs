//! A program that is linked statically, in Rust: it needs nothing of the machine's libraries.

use std::{fs, path::Path};

use crate::programs::world::{each, told};

#[test]
fn a_static_program_runs_by_itself() {
    let own = std::env::current_exe().unwrap();
    let built = own.parent().and_then(Path::parent).unwrap().join("agent-os-launch");
    each(|world| {
        let path = world.work().join("static");
        fs::copy(&built, &path).unwrap();
        world.give(&path);
        let output = world.command(&[], &["./static", "--version"]).output().unwrap();
        assert!(output.status.success() && !output.stdout.is_empty(), "{}", told(&output));
        let dynamic = world.script(&[], "grep -c /lib64/ld-linux static || true");
        assert_eq!(dynamic, "0\n", "it asks for a loader");
    });
}
