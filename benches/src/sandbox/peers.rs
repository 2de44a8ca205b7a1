//! What others need on this machine, in the same run: a bare process, bubblewrap, crun. Each runs `/bin/true` to its end.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use tokio::task::block_in_place;

use crate::probe::millis;

const TRUE: &str = "/usr/bin/true";

/// A peer that is installed here.
#[derive(Debug)]
pub struct Peer {
    pub name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
}

/// All namespaces, the whole root read-only, a /proc and a /dev of its own: what its users write first.
pub fn bubblewrap() -> Option<Peer> {
    let words =
        ["--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--", TRUE];
    peer("bwrap --unshare-all", "bwrap", words.map(str::to_owned).to_vec())
}

/// A bundle with crun's own default configuration, without cgroups, which it cannot use beside version 1.
pub fn crun(scratch: &Path) -> Result<Option<Peer>> {
    let Some(program) = find("crun") else { return Ok(None) };
    let bundle = scratch.join("bundle");
    std::fs::create_dir_all(bundle.join("rootfs"))?;
    block_in_place(|| Command::new(&program).arg("spec").current_dir(&bundle).status())?;
    let path = bundle.join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).context("crun spec")?)?;
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = serde_json::json!([TRUE]);
    config["root"] = serde_json::json!({"path": "/", "readonly": true});
    std::fs::write(&path, serde_json::to_vec(&config)?)?;
    let state = scratch.join("crun").display().to_string();
    let bundle = bundle.display().to_string();
    let words = ["--cgroup-manager=disabled", "--root", &state, "run", "--bundle", &bundle, "bench"];
    let peer = Peer { name: "crun run", program, arguments: words.map(str::to_owned).to_vec() };
    // It refuses some machines altogether, and says so.
    Ok(peer.run().is_ok().then_some(peer))
}

fn peer(name: &'static str, program: &str, arguments: Vec<String>) -> Option<Peer> {
    let peer = Peer { name, program: find(program)?, arguments };
    peer.run().is_ok().then_some(peer)
}

fn find(program: &str) -> Option<PathBuf> {
    ["/usr/bin", "/bin", "/usr/local/bin"]
        .iter()
        .map(|place| Path::new(place).join(program))
        .find(|path| path.is_file())
}

impl Peer {
    /// From the start to the end, in milliseconds.
    pub fn run(&self) -> Result<f64> {
        to_end(Command::new(&self.program).args(&self.arguments), self.name)
    }
}

/// Milliseconds from the start of a command to its end.
pub fn to_end(command: &mut Command, name: &str) -> Result<f64> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let began = Instant::now();
    let status = block_in_place(|| command.status()).with_context(|| name.to_owned())?;
    let taken = millis(began);
    if !status.success() {
        bail!("{name} failed: {status}");
    }
    Ok(taken)
}
