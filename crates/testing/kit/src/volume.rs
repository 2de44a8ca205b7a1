//! A small file system that a test may fill, break and mend. It lives in a mount namespace of its own, which a helper
//! process keeps: the machine's own table of mounts never sees it, and it goes away with the helper.

use std::{
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

/// Reached from outside through the helper's root.
#[derive(Debug)]
pub struct Volume {
    helper: Child,
    /// As the helper sees it.
    inside: PathBuf,
    outside: PathBuf,
    _scratch: TempDir,
}

impl Volume {
    /// In memory, with room for so many megabytes. An error is the reason why this machine cannot have one.
    pub fn memory(megabytes: u32) -> Result<Self, String> {
        Self::mounted(|at, _| format!("mount -t tmpfs -o size={megabytes}m tmpfs '{at}'"))
    }

    /// On a block device of its own, which can fail.
    pub fn disk(megabytes: u32) -> Result<Self, String> {
        Self::mounted(|at, image| {
            format!("truncate -s {megabytes}M '{image}' && mkfs.ext4 -q '{image}' && mount -o loop '{image}' '{at}'")
        })
    }

    fn mounted(script: impl Fn(&str, &str) -> String) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root can mount a file system".into());
        }
        let scratch = TempDir::with_prefix("agentos-volume-").map_err(|error| error.to_string())?;
        let (inside, image) = (scratch.path().join("mounted"), scratch.path().join("image"));
        std::fs::create_dir(&inside).map_err(|error| error.to_string())?;
        // A server of another user has to get there; what it holds has rights of its own.
        std::fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o755))
            .map_err(|error| error.to_string())?;
        let script = script(&inside.to_string_lossy(), &image.to_string_lossy());
        // Ends when its input does, so that it cannot outlive the test.
        let mut helper = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c"])
            .arg(format!("{script} && echo mounted && exec cat"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|error| format!("unshare: {error}"))?;
        let mut line = String::new();
        let output = helper.stdout.take().ok_or("no output")?;
        BufReader::new(output).read_line(&mut line).map_err(|error| error.to_string())?;
        if line.trim() != "mounted" {
            let _ = helper.wait();
            return Err(format!("this machine does not let the test mount: {script}"));
        }
        let outside = PathBuf::from(format!("/proc/{}/root{}", helper.id(), inside.display()));
        Ok(Self { helper, inside, outside, _scratch: scratch })
    }

    /// Where the test finds it.
    pub fn path(&self) -> &Path {
        &self.outside
    }

    /// Where programs that run in it find it.
    pub fn inside(&self) -> &Path {
        &self.inside
    }

    /// What makes a program run in it.
    pub fn entrance(&self) -> Vec<String> {
        let words = ["/usr/bin/nsenter", "--mount", "--target", &self.helper.id().to_string()].map(str::to_owned);
        words.to_vec()
    }

    /// Names of hosts that programs in it know, in the place of those of the machine.
    pub fn name_hosts(&self, lines: &str) {
        std::fs::write(self.outside.join("hosts"), lines).expect("the volume is writable");
        self.run(&format!("mount --bind '{}/hosts' /etc/hosts", self.inside.display()));
    }

    /// A directory of the machine at another place, which must be one already.
    pub fn show(&self, directory: &Path, at: &str) {
        self.run(&format!("mount --bind '{}' '{at}'", directory.display()));
    }

    /// Takes all the room there is.
    pub fn fill(&self) {
        let script = format!("cat /dev/zero > '{}/filler' 2>/dev/null || true", self.inside.display());
        self.run(&script);
    }

    pub fn free(&self) {
        self.run(&format!("rm -f '{}/filler'", self.inside.display()));
    }

    pub fn make_read_only(&self, read_only: bool) {
        let mode = if read_only { "ro" } else { "rw" };
        self.run(&format!("mount -o remount,{mode} '{}'", self.inside.display()));
    }

    /// As after a failure of the device: what is open fails, and nothing is written any more.
    pub fn fail(&self) {
        self.run(&format!("mount -o remount,abort '{}'", self.inside.display()));
    }

    /// Checked and mounted again. Nobody may use it meanwhile.
    pub fn mend(&self) {
        let (at, image) = (self.inside.display(), self.inside.with_file_name("image"));
        // 1 tells of errors that were corrected.
        let check = format!("e2fsck -p -f '{0}' >/dev/null; [ $? -le 1 ]", image.display());
        self.run(&format!("umount '{at}' && {{ {check}; }} && mount -o loop '{}' '{at}'", image.display()));
    }

    fn run(&self, script: &str) {
        let status = Command::new("nsenter")
            .args(["--mount", "--target", &self.helper.id().to_string(), "sh", "-c", script])
            .status()
            .expect("nsenter of util-linux");
        assert!(status.success(), "{script}");
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = self.helper.kill();
        let _ = self.helper.wait();
    }
}
