//! From an installed package to the plan of a sandbox: everything that must hold right before a process is made.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use agentos_authority::GrantSet;
use agentos_limits::Resource;
use agentos_sandbox::plan::{APP, Plan};
use agentos_trust::package::{check_expiry, verify_files};
use agentos_types::{Code, Fault, Manifest, Result, Timestamp};

use crate::{SupervisorOptions, surroundings::Surroundings};

/// What one life of an agent is made from.
pub(crate) struct Blueprint {
    pub(crate) manifest: Manifest,
    pub(crate) grants: Arc<GrantSet>,
    pub(crate) surroundings: Surroundings,
    pub(crate) plan: Plan,
}

/// `PACKAGES/AGENT/VERSION`.
pub(crate) fn directory(options: &SupervisorOptions, manifest: &Manifest) -> PathBuf {
    options.packages.join(manifest.name.as_str()).join(&manifest.version)
}

/// Checks the expiry and every file, and makes group and workspace. Reads and makes files: not for async threads.
pub(crate) fn prepare(
    options: &SupervisorOptions,
    manifest: Manifest,
    host_id: Option<u32>,
    now: Timestamp,
) -> Result<Blueprint> {
    check_expiry(&manifest, now)?;
    let package = directory(options, &manifest);
    verify_files(&package, &manifest)?;
    show_to_agent(&package, &manifest).map_err(|source| {
        let message = format!("the files of package {} {} cannot be made readable", manifest.name, manifest.version);
        Fault::new(Code::PACKAGE_UNREADABLE, message).detail(source)
    })?;
    let grants = Arc::new(GrantSet::compile(&manifest.grants)?);
    let surroundings = Surroundings::make(options, &manifest, host_id)?;
    let mut plan = Plan::new(options.host.clone(), command(&manifest)).with_manifest(
        &manifest.sandbox,
        &manifest.limits,
        surroundings.bounds(Resource::Memory),
    );
    plan.environment = environment(&manifest);
    plan.package = Some(package);
    plan.workspace = Some(surroundings.mount());
    plan.closed = options.closed.clone();
    plan.host_id = host_id;
    if surroundings.bounds(Resource::Processes) {
        // The group counts what it refuses; the limit of the user would refuse first, and tell nobody.
        plan.limits.processes = None;
    }
    Ok(Blueprint { manifest, grants, surroundings, plan })
}

/// What the manifest chooses; where it lives is ours to name.
fn environment(manifest: &Manifest) -> BTreeMap<String, String> {
    let own = manifest.environment.iter().filter(|(name, _)| !["HOME", "TMPDIR"].contains(&name.as_str()));
    own.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Words that are files of the package mean the file where the sandbox has it.
fn command(manifest: &Manifest) -> Vec<String> {
    let words = manifest.command.iter().enumerate();
    let inside =
        words.map(|(index, word)| match manifest.files.contains_key(word) || (index == 0 && !word.contains('/')) {
            true => format!("{APP}/{word}"),
            false => word.clone(),
        });
    inside.collect()
}

/// An agent has a user of its own, who must be able to read the package. Nobody else of this machine gets there: the
/// directories above are the server's alone.
fn show_to_agent(package: &Path, manifest: &Manifest) -> io::Result<()> {
    allow(package, 0o555)?;
    for name in manifest.files.keys() {
        let mut directory = PathBuf::from(name);
        while directory.pop() && directory != Path::new("") {
            allow(&package.join(&directory), 0o555)?;
        }
        let file = package.join(name);
        let is_program = fs::symlink_metadata(&file)?.permissions().mode() & 0o100 != 0;
        allow(&file, if is_program { 0o555 } else { 0o444 })?;
    }
    Ok(())
}

fn allow(path: &Path, bits: u32) -> io::Result<()> {
    let mode = fs::symlink_metadata(path)?.permissions().mode() & 0o7777;
    match mode & bits == bits {
        true => Ok(()),
        false => fs::set_permissions(path, fs::Permissions::from_mode(mode | bits)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check_command(words: &[&str], files: &[&str], expected: &[&str]) {
        let files: BTreeMap<_, _> = files.iter().map(|name| (*name, "")).collect();
        let manifest = json!({"schema": 1, "name": "a", "version": "1.0.0", "command": words, "files": files});
        assert_eq!(command(&serde_json::from_value(manifest).unwrap()), expected);
    }

    #[test]
    fn words_that_are_files_of_the_package_become_paths() {
        check_command(&["run", "x"], &["run"], &["/app/run", "x"]);
        check_command(
            &["/usr/bin/python3", "main.py", "-v"],
            &["main.py"],
            &["/usr/bin/python3", "/app/main.py", "-v"],
        );
        check_command(&["bin/run", "lib/a"], &["bin/run", "lib/a"], &["/app/bin/run", "/app/lib/a"]);
        check_command(&["/usr/bin/env", "run"], &[], &["/usr/bin/env", "run"]);
    }

    #[test]
    fn a_manifest_does_not_choose_where_it_lives() {
        let chosen = json!({"PATH": "/opt", "HOME": "/root", "TMPDIR": "/x", "MODE": "x"});
        let manifest = json!({"schema": 1, "name": "a", "version": "1.0.0", "command": ["a"], "environment": chosen});
        let environment = environment(&serde_json::from_value(manifest).unwrap());
        assert_eq!(environment.keys().collect::<Vec<_>>(), ["MODE", "PATH"]);
    }

    #[test]
    fn every_file_of_the_package_can_be_read_and_programs_run() {
        let package = tempfile::tempdir().unwrap();
        let mode = |name: &str| fs::metadata(package.path().join(name)).unwrap().permissions().mode() & 0o777;
        fs::create_dir_all(package.path().join("lib/deep")).unwrap();
        for (name, bits) in [("run", 0o700), ("lib/deep/data", 0o600)] {
            fs::write(package.path().join(name), "x").unwrap();
            fs::set_permissions(package.path().join(name), fs::Permissions::from_mode(bits)).unwrap();
        }
        for directory in ["lib", "lib/deep", ""] {
            fs::set_permissions(package.path().join(directory), fs::Permissions::from_mode(0o700)).unwrap();
        }
        let files = BTreeMap::from([("run", ""), ("lib/deep/data", "")]);
        let manifest = json!({"schema": 1, "name": "a", "version": "1.0.0", "command": ["run"], "files": files});
        show_to_agent(package.path(), &serde_json::from_value(manifest).unwrap()).unwrap();
        let modes = ["", "run", "lib", "lib/deep", "lib/deep/data"].map(mode);
        assert_eq!(modes, [0o755, 0o755, 0o755, 0o755, 0o644]);
    }
}
