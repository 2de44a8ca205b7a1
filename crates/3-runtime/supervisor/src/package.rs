//! From an installed package to a launch order: everything that must hold right before a process is made.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use agentos_authority::GrantSet;
use agentos_base::fs::create_private_directory;
use agentos_protocol::launch::{LAUNCH_VERSION, LaunchOrder, ProcessLimits};
use agentos_trust::package::{check_expiry, verify_files};
use agentos_types::{Code, Fault, Manifest, Result, Timestamp, manifest::Limits};

use crate::SupervisorOptions;

/// What one life of an agent is made from.
#[derive(Debug)]
pub(crate) struct Blueprint {
    pub(crate) manifest: Manifest,
    pub(crate) grants: Arc<GrantSet>,
    pub(crate) order: LaunchOrder,
}

/// `PACKAGES/AGENT/VERSION`.
pub(crate) fn directory(options: &SupervisorOptions, manifest: &Manifest) -> PathBuf {
    options.packages.join(manifest.name.as_str()).join(&manifest.version)
}

/// Checks the launcher, the expiry and every file, and makes the working directory. Reads files: not for async threads.
pub(crate) fn prepare(options: &SupervisorOptions, manifest: Manifest, now: Timestamp) -> Result<Blueprint> {
    if !fs::metadata(&options.launcher).is_ok_and(|found| found.is_file()) {
        return Err(Fault::new(Code::LAUNCHER_MISSING, "the program agent-os-launch is missing")
            .hint("install it beside agent-os")
            .detail(options.launcher.display()));
    }
    check_expiry(&manifest, now)?;
    let package = directory(options, &manifest);
    verify_files(&package, &manifest)?;
    let grants = Arc::new(GrantSet::compile(&manifest.grants)?);
    let work = options.work.join(manifest.name.as_str());
    create_private_directory(&work)?;
    create_private_directory(&work.join("tmp"))?;
    let order = order(&manifest, &package, &work)?;
    Ok(Blueprint { manifest, grants, order })
}

fn order(manifest: &Manifest, package: &Path, work: &Path) -> Result<LaunchOrder> {
    let (package, work) = (text(package)?, text(work)?);
    let command = manifest
        .command
        .iter()
        .enumerate()
        .map(|(index, word)| match manifest.files.contains_key(word) || (index == 0 && !word.contains('/')) {
            true => format!("{package}/{word}"),
            false => word.clone(),
        })
        .collect();
    Ok(LaunchOrder {
        version: LAUNCH_VERSION,
        command,
        environment: environment(manifest, work),
        directory: work.to_owned(),
        limits: limits(&manifest.limits),
    })
}

/// The manifest may choose its own PATH and LANG; the two places that it may write to are ours to name.
fn environment(manifest: &Manifest, work: &str) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into()), ("LANG".into(), "C.UTF-8".into())]);
    environment.extend(manifest.environment.clone());
    environment.insert("HOME".into(), work.into());
    environment.insert("TMPDIR".into(), format!("{work}/tmp"));
    environment
}

fn limits(limits: &Limits) -> ProcessLimits {
    ProcessLimits {
        memory_bytes: limits.memory_bytes,
        cpu_seconds: limits.cpu_seconds,
        open_files: limits.open_files,
        file_bytes: limits.file_bytes,
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| Fault::internal(format!("{} is not UTF-8", path.display())))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn ordered(change: Value) -> LaunchOrder {
        let mut manifest = json!({"schema": 1, "name": "a", "version": "1.0.0", "command": ["run"]});
        for (key, value) in change.as_object().unwrap() {
            manifest[key] = value.clone();
        }
        let manifest = serde_json::from_value(manifest).unwrap();
        order(&manifest, Path::new("/p/a/1.0.0"), Path::new("/w/a")).unwrap()
    }

    fn check_command(command: &[&str], files: &[&str], expected: &[&str]) {
        let files: BTreeMap<_, _> = files.iter().map(|name| (*name, "")).collect();
        assert_eq!(ordered(json!({"command": command, "files": files})).command, expected);
    }

    #[test]
    fn words_that_are_files_of_the_package_become_paths() {
        check_command(&["run", "x"], &["run"], &["/p/a/1.0.0/run", "x"]);
        check_command(
            &["/usr/bin/python3", "main.py", "-v"],
            &["main.py"],
            &["/usr/bin/python3", "/p/a/1.0.0/main.py", "-v"],
        );
        check_command(&["bin/run", "lib/a"], &["bin/run", "lib/a"], &["/p/a/1.0.0/bin/run", "/p/a/1.0.0/lib/a"]);
        check_command(&["/usr/bin/env", "run"], &[], &["/usr/bin/env", "run"]);
    }

    #[test]
    fn the_environment_is_the_manifests_and_four_of_ours() {
        let plain = ordered(json!({}));
        let expected = [("HOME", "/w/a"), ("LANG", "C.UTF-8"), ("PATH", "/usr/bin:/bin"), ("TMPDIR", "/w/a/tmp")];
        let seen: Vec<_> = plain.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(seen, expected);
        let chosen = ordered(json!({"environment": {"PATH": "/opt", "HOME": "/root", "MODE": "x"}}));
        assert_eq!(chosen.environment["PATH"], "/opt");
        assert_eq!(chosen.environment["HOME"], "/w/a", "a manifest does not choose where it lives");
        assert_eq!(chosen.environment["MODE"], "x");
    }
}
