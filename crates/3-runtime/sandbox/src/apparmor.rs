//! AppArmor profiles that sandboxes start in: a wall of the administrator's, around those that every sandbox puts up by itself.
//!
//! The kernel enters a profile when the sandbox's first program starts, and no program inside can leave it. Loading profiles
//! is not done here: it takes the administrator of the machine (`deploy/apparmor`).

use std::{fs, path::Path};

use agentos_protocol::sandbox::Profile;
use agentos_types::{Code, Fault, Result};

use crate::Backend;

/// Around agents, their tools, and commands of `sandbox run`.
pub const AGENT: &str = "agent-os-agent";
/// Around the egress proxy.
pub const EGRESS: &str = "agent-os-egress";
const PROFILES: [&str; 2] = [AGENT, EGRESS];

/// Where the kernel tells of AppArmor.
const ENABLED: &str = "sys/module/apparmor/parameters/enabled";
/// Root alone reads the list; everybody sees the directory.
const LIST: &str = "sys/kernel/security/apparmor/profiles";
const DIRECTORY: &str = "sys/kernel/security/apparmor/policy/profiles";

/// What the operator wants of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AppArmorMode {
    /// No profile, no sandbox.
    Required,
    /// Where the kernel has it and the profiles are loaded.
    #[default]
    Auto,
    Off,
}

impl AppArmorMode {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "required" => Some(Self::Required),
            "auto" => Some(Self::Auto),
            "off" => Some(Self::Off),
            _ => None,
        }
    }
}

/// Whether sandboxes start in profiles here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppArmor {
    is_applied: bool,
    detail: String,
}

impl AppArmor {
    /// Looks at this machine. Refuses if profiles are required and cannot be had.
    pub fn probe(mode: AppArmorMode, backend: Backend) -> Result<Self> {
        Self::decide(mode, backend, Path::new("/"))
    }

    fn decide(mode: AppArmorMode, backend: Backend, root: &Path) -> Result<Self> {
        if mode == AppArmorMode::Off {
            return Ok(Self { is_applied: false, detail: "sandbox.apparmor is off".to_owned() });
        }
        match (obstacle(backend, root), mode) {
            (None, _) => {
                let detail = format!("agents start in {AGENT}, the egress proxy in {EGRESS}");
                Ok(Self { is_applied: true, detail })
            }
            (Some(why), AppArmorMode::Required) => {
                Err(Fault::new(Code::APPARMOR_UNAVAILABLE, format!("AppArmor is required, but {why}")).hint(
                    "load the profiles of deploy/apparmor as docs/src/guides/apparmor.md says, or set sandbox.apparmor to auto",
                ))
            }
            (Some(detail), _) => Ok(Self { is_applied: false, detail }),
        }
    }

    /// What a sandbox of this kind starts in.
    pub fn profile(&self, profile: Profile) -> Option<&'static str> {
        self.is_applied.then_some(match profile {
            Profile::Proxy => EGRESS,
            Profile::Strict | Profile::Agent | Profile::Dev => AGENT,
        })
    }

    /// For people: what is applied, or why nothing is.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

fn obstacle(backend: Backend, root: &Path) -> Option<String> {
    match backend {
        Backend::Native => {}
        // bwrap would be in the profile of what it is to start, and may do nothing there.
        Backend::Bwrap => return Some("profiles are not entered with sandbox.backend = bwrap".to_owned()),
        Backend::None => return Some("there are no sandboxes with sandbox.backend = none".to_owned()),
    }
    if fs::read_to_string(root.join(ENABLED)).is_ok_and(|text| text.trim() == "Y") {
        let loaded = loaded(root);
        PROFILES.into_iter().find_map(|name| match loaded.iter().find(|(known, _)| known == name) {
            None => Some(format!("the profile {name} is not loaded")),
            Some((_, mode)) if mode != "enforce" => Some(format!("the profile {name} is in mode {mode}, not enforce")),
            Some(_) => None,
        })
    } else {
        Some("AppArmor is not active in this kernel".to_owned())
    }
}

/// Names and modes.
fn loaded(root: &Path) -> Vec<(String, String)> {
    if let Ok(list) = fs::read_to_string(root.join(LIST)) {
        let row = |line: &str| {
            let (name, mode) = line.strip_suffix(')')?.rsplit_once(" (")?;
            Some((name.to_owned(), mode.to_owned()))
        };
        return list.lines().filter_map(row).collect();
    }
    let read = |path: &Path| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let entries = fs::read_dir(root.join(DIRECTORY)).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((read(&entry.path().join("name"))?, read(&entry.path().join("mode"))?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine whose list of profiles is this one. `None`: a list that this user may not read.
    fn machine(enabled: &str, list: Option<&str>) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [(ENABLED, Some(enabled)), (LIST, list)] {
            let Some(text) = text else { continue };
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    const BOTH: &str = "agent-os-agent (enforce)\nagent-os-egress (enforce)\nother (complain)\n";

    #[track_caller]
    fn check(root: &Path, backend: Backend, reason: Option<&str>) {
        let auto = AppArmor::decide(AppArmorMode::Auto, backend, root).unwrap();
        let required = AppArmor::decide(AppArmorMode::Required, backend, root);
        match reason {
            None => {
                assert_eq!(auto.profile(Profile::Agent), Some(AGENT));
                assert_eq!(required, Ok(auto));
            }
            Some(reason) => {
                assert_eq!(auto.profile(Profile::Agent), None);
                assert!(auto.detail().contains(reason), "{}", auto.detail());
                let fault = required.unwrap_err();
                assert_eq!(fault.code, Code::APPARMOR_UNAVAILABLE);
                assert!(fault.message.contains(reason) && fault.hint.is_some(), "{}", fault.message);
            }
        }
        let off = AppArmor::decide(AppArmorMode::Off, backend, root).unwrap();
        assert!(Profile::ALL.into_iter().all(|profile| off.profile(profile).is_none()));
    }

    #[test]
    fn what_is_required_and_missing_refuses_and_is_left_out_otherwise() {
        check(machine("Y\n", Some(BOTH)).path(), Backend::Native, None);
        check(machine("N\n", Some(BOTH)).path(), Backend::Native, Some("not active"));
        check(Path::new("/nowhere"), Backend::Native, Some("not active"));
        check(machine("Y\n", Some("other (enforce)\n")).path(), Backend::Native, Some("agent-os-agent is not loaded"));
        let complaining = BOTH.replace("agent (enforce)", "agent (complain)");
        check(machine("Y\n", Some(&complaining)).path(), Backend::Native, Some("in mode complain"));
        check(machine("Y\n", Some(BOTH)).path(), Backend::Bwrap, Some("bwrap"));
        check(machine("Y\n", Some(BOTH)).path(), Backend::None, Some("none"));
        check(machine("Y\n", None).path(), Backend::Native, Some("agent-os-agent is not loaded"));
    }

    #[test]
    fn who_may_not_read_the_list_reads_the_directory() {
        let root = machine("Y\n", None);
        for (entry, name) in [("agent-os-agent.3", AGENT), ("agent-os-egress.4", EGRESS)] {
            let directory = root.path().join(DIRECTORY).join(entry);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("name"), format!("{name}\n")).unwrap();
            fs::write(directory.join("mode"), "enforce\n").unwrap();
        }
        check(root.path(), Backend::Native, None);
    }

    #[test]
    fn the_proxy_has_a_profile_of_its_own() {
        let root = machine("Y\n", Some(BOTH));
        let apparmor = AppArmor::decide(AppArmorMode::Required, Backend::Native, root.path()).unwrap();
        assert_eq!(apparmor.profile(Profile::Proxy), Some(EGRESS));
        for profile in [Profile::Strict, Profile::Dev] {
            assert_eq!(apparmor.profile(profile), Some(AGENT));
        }
    }

    /// Without the first flag no rule on a path would match in a root that is attached nowhere, without the second one every
    /// path would be refused. What follows from them is tried in the virtual machine of `make test-vm`.
    #[test]
    fn the_names_of_every_profile_begin_at_the_root_of_its_sandbox() {
        for (name, text) in [
            (AGENT, include_str!("../../../../deploy/apparmor/agent-os-agent")),
            (EGRESS, include_str!("../../../../deploy/apparmor/agent-os-egress")),
            ("agent-os-launch", include_str!("../../../../deploy/apparmor/agent-os-launch")),
        ] {
            let head = text.lines().find(|line| line.starts_with(&format!("profile {name} "))).unwrap();
            let (_, flags) = head.split_once("flags=(").unwrap();
            let flags: Vec<&str> = flags.split(')').next().unwrap().split(',').collect();
            assert!(["chroot_relative", "attach_disconnected"].iter().all(|flag| flags.contains(flag)), "{head}");
        }
    }
}
