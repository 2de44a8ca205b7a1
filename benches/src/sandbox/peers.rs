//! What others need on this machine, in the same run: bubblewrap and crun. Each runs `/usr/bin/true` to its end.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::task::block_in_place;

use crate::probe::millis;

const TRUE: &str = "/usr/bin/true";

/// A peer that is installed and works here.
#[derive(Debug)]
pub struct Peer {
    pub name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
}

/// All namespaces, the whole root read-only, a /proc and a /dev of its own: what its users write first. The error says why
/// there is none.
pub fn bubblewrap() -> Result<Peer> {
    let words =
        ["--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--", TRUE];
    let peer =
        Peer { name: "bwrap --unshare-all", program: find("bwrap")?, arguments: words.map(str::to_owned).to_vec() };
    peer.must_work()?;
    Ok(peer)
}

/// A bundle of crun's own default configuration with the machine's `/usr` in it; as root with a cgroup.
pub fn crun(scratch: &Path, is_root: bool) -> Result<Peer> {
    let program = find("crun")?;
    let bundle = scratch.join("bundle");
    make_bundle(&program, &bundle, is_root)?;
    let (name, groups) = match is_root {
        true => ("crun run, cgroup", "--cgroup-manager=cgroupfs"),
        false => ("crun run", "--cgroup-manager=disabled"),
    };
    let (state, bundle) = (scratch.join("crun").display().to_string(), bundle.display().to_string());
    let words = [groups, "--root", &state, "run", "--bundle", &bundle, "agent-os-bench"];
    let peer = Peer { name, program, arguments: words.map(str::to_owned).to_vec() };
    peer.must_work()?;
    Ok(peer)
}

fn make_bundle(program: &Path, bundle: &Path, is_root: bool) -> Result<()> {
    let root = bundle.join("rootfs");
    for name in ["usr", "proc", "dev", "sys"] {
        fs::create_dir_all(root.join(name))?;
    }
    for name in ["bin", "lib", "lib64"] {
        symlink(format!("usr/{name}"), root.join(name))?;
    }
    let mut spec = Command::new(program);
    spec.arg("spec").args((!is_root).then_some("--rootless")).current_dir(bundle);
    said(&mut spec, "crun spec")?;
    let path = bundle.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).context("crun spec")?)?;
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = json!([TRUE]);
    config["root"] = json!({"path": "rootfs", "readonly": true});
    let mounts = config["mounts"].as_array_mut().context("crun spec names no mounts")?;
    // The list of groups is no part of what its users need inside, and cannot be mounted by everybody.
    mounts.retain(|mount| mount["type"] != "cgroup");
    mounts.insert(0, json!({"destination": "/usr", "source": "/usr", "type": "none", "options": ["rbind", "ro"]}));
    fs::write(&path, serde_json::to_vec(&config)?)?;
    Ok(())
}

fn find(program: &str) -> Result<PathBuf> {
    ["/usr/bin", "/bin", "/usr/local/bin"]
        .iter()
        .map(|place| Path::new(place).join(program))
        .find(|path| path.is_file())
        .with_context(|| format!("{program} is not installed"))
}

impl Peer {
    fn must_work(&self) -> Result<()> {
        said(Command::new(&self.program).args(&self.arguments), self.name)
    }

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

/// Runs it to a good end; otherwise the error is what it printed.
fn said(command: &mut Command, name: &str) -> Result<()> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let output = block_in_place(|| command.output()).with_context(|| name.to_owned())?;
    if !output.status.success() {
        bail!("{name} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
