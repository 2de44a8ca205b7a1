//! Agent packages in scratch directories, ready to be signed.

use std::{fs, path::Path};

use tempfile::TempDir;

use crate::programs::{program, python};

/// A package directory that lives as long as this value.
#[derive(Debug)]
pub struct Package {
    directory: TempDir,
    manifest: String,
}

impl Package {
    /// A Python worker: the script's text, and TOML that follows the first lines of the manifest (grants, limits, …).
    pub fn python(name: &str, script: &str, rest: &str) -> Self {
        let package = Self::empty(name, &[python().to_str().expect("a plain path"), "worker.py"], rest);
        fs::write(package.path().join("worker.py"), script).expect("scratch is writable");
        package
    }

    /// The Python echo agent of `examples/`.
    pub fn echo(name: &str, rest: &str) -> Self {
        Self::python(name, include_str!("../../../../examples/python/echo/echo_agent.py"), rest)
    }

    /// The misbehaving agent of `examples/`.
    pub fn rogue(name: &str, rest: &str) -> Self {
        Self::python(name, include_str!("../../../../examples/python/rogue/rogue_agent.py"), rest)
    }

    /// A worker that makes one `net.fetch` of each task's input, prints the reply and answers with it.
    pub fn fetcher(name: &str, rest: &str) -> Self {
        Self::python(name, include_str!("fetcher.py"), rest)
    }

    /// A worker that runs the command of each task's input in its sandbox and answers with status and output.
    pub fn runner(name: &str, rest: &str) -> Self {
        Self::python(name, include_str!("runner.py"), rest)
    }

    /// The Monitor with further grants.
    pub fn monitor(grants: &str) -> Self {
        let package = Self::empty("monitor", &["agent-os-monitor"], "");
        let own = "[[grants]]\ncategory = \"kv\"\nactions = [\"read\", \"write\"]\nresources = [\"*\"]\n\
                   [[grants]]\ncategory = \"schedule\"\nactions = [\"read\", \"write\"]\nresources = [\"self\"]\n\
                   [[grants]]\ncategory = \"notify\"\nactions = [\"event\"]\nresources = [\"event:watch.*\"]\n";
        fs::copy(program("agent-os-monitor"), package.path().join("agent-os-monitor")).expect("the Monitor is copied");
        package.with_rest(&format!("{own}{grants}"))
    }

    /// Replaces what follows the first lines of the manifest.
    pub fn with_rest(self, rest: &str) -> Self {
        let head = self.manifest.split("#rest\n").next().unwrap_or_default().to_owned();
        let manifest = format!("{head}#rest\n{rest}\n");
        self.write(manifest)
    }

    /// Another version of the same package.
    pub fn with_version(self, version: &str) -> Self {
        let manifest = self.manifest.replace("version = \"1.0.0\"", &format!("version = \"{version}\""));
        self.write(manifest)
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    fn empty(name: &str, command: &[&str], rest: &str) -> Self {
        let directory = TempDir::with_prefix("agentos-package-").expect("scratch is writable");
        // Words that are files of the package; the signer fills in their digests.
        let files: Vec<String> =
            command.iter().filter(|word| !word.starts_with('/')).map(|word| format!("\"{word}\" = \"\"")).collect();
        let words: Vec<String> = command.iter().map(|word| format!("{word:?}")).collect();
        let head = format!(
            "schema = 1\nname = \"{name}\"\nversion = \"1.0.0\"\ncommand = [{}]\nfiles = {{ {} }}\n",
            words.join(", "),
            files.join(", ")
        );
        Self { directory, manifest: String::new() }.write(format!("{head}#rest\n{rest}\n"))
    }

    fn write(mut self, manifest: String) -> Self {
        fs::write(self.path().join("agent.toml"), &manifest).expect("scratch is writable");
        self.manifest = manifest;
        self
    }
}
