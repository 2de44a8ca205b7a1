//! Builds the sandbox's first process, a program of its own without the C library (`init/`), and leaves it where `init.rs`
//! takes it from. By rustc itself: cargo builds a program either for everybody to start or not at all, and it has one way
//! to treat panics for all programs of a build.

use std::{env, error::Error, path::PathBuf, process::Command};

fn main() -> Result<(), Box<dyn Error>> {
    for path in ["init", "src/channel/numbers.rs"] {
        println!("cargo:rerun-if-changed={path}");
    }
    let program = PathBuf::from(env::var("OUT_DIR")?).join("agent-os-init");
    let mut rustc = Command::new(env::var("RUSTC")?);
    rustc.args(["init/main.rs", "--crate-name", "agent_os_init", "--crate-type", "bin", "--edition", "2024"]);
    rustc.args(["--target", &env::var("TARGET")?]).arg("-o").arg(&program);
    rustc.args(["-D", "warnings", "--check-cfg", "cfg(feature, values(\"walls-left-out\"))"]);
    for option in ["opt-level=2", "codegen-units=1", "panic=abort", "strip=symbols", "relocation-model=static"] {
        rustc.args(["-C", option]);
    }
    // Nothing of the C library, not even the start. The language's own library names a function for unwinding that nobody
    // calls where a panic ends the program.
    let linking =
        ["-nostartfiles", "-nostdlib", "-static", "-Wl,--build-id=none", "-Wl,--defsym=rust_eh_personality=0"];
    for argument in linking {
        rustc.arg("-C").arg(format!("link-arg={argument}"));
    }
    rustc.args(["-C", "target-feature=+crt-static"]);
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        rustc.arg("-C").arg(format!("linker={linker}"));
    }
    if env::var_os("CARGO_FEATURE_WALLS_LEFT_OUT").is_some() {
        rustc.args(["--cfg", "feature=\"walls-left-out\""]);
    }
    let status = rustc.status()?;
    if status.success() { Ok(()) } else { Err(format!("{rustc:?}: {status}").into()) }
}
