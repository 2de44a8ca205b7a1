//! What the rules read: the workspace as cargo sees it, and the files as git would list them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use serde_json::Value;

/// Directories that hold no source of ours.
const NOT_SOURCE: &[&str] = &["target", ".git", ".agent-os", ".tools", "node_modules", "__pycache__"];
/// More files than this under the root means that the walk left the source tree.
const FILES_MAX: usize = 20_000;

pub fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..").canonicalize().unwrap())
}

/// `cargo metadata` for the machine that the product is built for: other platforms' packages are neither downloaded on a
/// fresh machine nor shipped. Offline first; a package that no build has needed so far may have to be downloaded.
pub fn metadata() -> &'static Value {
    static METADATA: OnceLock<Value> = OnceLock::new();
    METADATA.get_or_init(|| {
        let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let ask = |offline: &[&str]| {
            Command::new(env!("CARGO"))
                .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", &platform])
                .args(offline)
                .current_dir(root())
                .output()
                .unwrap()
        };
        let offline = ask(&["--offline"]);
        let output = if offline.status.success() { offline } else { ask(&[]) };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    })
}

/// A package that is built into the workspace.
pub struct Package {
    pub id: String,
    pub name: String,
    pub version: String,
    pub licence: String,
    pub description: String,
    /// Directory below the root; empty for packages of a registry.
    pub directory: String,
    /// Direct dependencies by name, with `true` for one that only tests use.
    pub dependencies: Vec<(String, bool)>,
}

pub fn packages() -> Vec<Package> {
    array(&metadata()["packages"]).iter().map(package).collect()
}

/// The members of this workspace.
pub fn members() -> Vec<Package> {
    let ids: Vec<&str> = array(&metadata()["workspace_members"]).iter().map(text).collect();
    packages().into_iter().filter(|package| ids.contains(&package.id.as_str())).collect()
}

fn package(value: &Value) -> Package {
    let manifest = Path::new(text(&value["manifest_path"]));
    let directory = manifest.parent().and_then(|path| path.strip_prefix(root()).ok());
    let dependencies = array(&value["dependencies"]);
    Package {
        id: text(&value["id"]).to_owned(),
        name: text(&value["name"]).to_owned(),
        version: text(&value["version"]).to_owned(),
        licence: value["license"].as_str().unwrap_or_default().to_owned(),
        description: value["description"].as_str().unwrap_or_default().to_owned(),
        directory: directory.map(|path| path.display().to_string()).unwrap_or_default(),
        dependencies: dependencies
            .iter()
            .map(|found| (text(&found["name"]).to_owned(), found["kind"].as_str() == Some("dev")))
            .collect(),
    }
}

pub fn array(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// A file below the root: its path with `/`, and its text.
pub struct SourceFile {
    pub path: String,
    pub text: String,
}

impl SourceFile {
    /// Whether the file exists only for tests.
    pub fn is_test(&self) -> bool {
        self.path.starts_with("crates/testing/") || self.path.contains("/tests/") || self.path.ends_with("/tests.rs")
    }

    /// The lines with their numbers, without an inline test module and without comments.
    pub fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let product = self.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        product
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
            .map(|(index, line)| (index + 1, line))
    }
}

/// All files below `folder` with one of the extensions, sorted.
pub fn files(folder: &str, extensions: &[&str]) -> Vec<SourceFile> {
    let mut found = Vec::new();
    let mut pending = vec![root().join(folder)];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let kind = entry.file_type().unwrap();
            if kind.is_dir() && !NOT_SOURCE.contains(&name.as_str()) {
                pending.push(path);
            } else if kind.is_file() && extensions.iter().any(|extension| name.ends_with(extension)) {
                let relative = path.strip_prefix(root()).unwrap().display().to_string();
                found.push(SourceFile { path: relative, text: fs::read_to_string(&path).unwrap() });
            }
        }
        assert!(found.len() < FILES_MAX, "more than {FILES_MAX} files below {folder}");
    }
    found.sort_by(|left, right| left.path.cmp(&right.path));
    found
}

/// The Rust files that end up in what is shipped.
pub fn product() -> Vec<SourceFile> {
    files("crates", &[".rs"]).into_iter().filter(|file| !file.is_test()).collect()
}

/// Fails with one line for each finding, and the way out.
#[track_caller]
pub fn expect_none(findings: Vec<String>, remedy: &str) {
    assert!(findings.is_empty(), "{} finding(s); {remedy}\n  {}\n", findings.len(), findings.join("\n  "));
}
