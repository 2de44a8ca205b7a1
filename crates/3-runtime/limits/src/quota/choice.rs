//! Which ways of bounding a workspace this machine has, and which one is taken.

use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
};

use agentos_types::{Code, Fault, Result, agent::Enforcement};
use rustix::{
    io::Errno,
    mount::{FsOpenFlags, fsopen},
};

use super::{mounts, mounts::MountLine, programs::Programs};

/// How the size of a workspace is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QuotaDriver {
    /// A quota of the file system on a directory (ext4, xfs).
    Project,
    /// A file system of its own in a file.
    Image,
    /// Memory: exact, and gone with the process.
    Tmpfs,
    /// A directory that is measured again and again; who is above its limit is stopped.
    Watchdog,
}

impl QuotaDriver {
    pub const ALL: [QuotaDriver; 4] =
        [QuotaDriver::Project, QuotaDriver::Image, QuotaDriver::Tmpfs, QuotaDriver::Watchdog];

    pub fn as_str(self) -> &'static str {
        match self {
            QuotaDriver::Project => "project",
            QuotaDriver::Image => "image",
            QuotaDriver::Tmpfs => "tmpfs",
            QuotaDriver::Watchdog => "watchdog",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|driver| driver.as_str() == text)
    }

    /// How far the limit holds, and in what way.
    pub fn standing(self) -> (Enforcement, &'static str) {
        match self {
            QuotaDriver::Project => {
                (Enforcement::Enforced, "a project quota of the file system bounds bytes and files")
            }
            QuotaDriver::Image => (Enforcement::Enforced, "a file system of its own, as large as the limit"),
            QuotaDriver::Tmpfs => {
                (Enforcement::Enforced, "the workspace is memory of that size; nothing in it outlives the process")
            }
            QuotaDriver::Watchdog => (
                Enforcement::Degraded,
                "measured every few seconds: an agent above its limit is stopped after it has written too much, and files \
                 that are deleted but open are not seen",
            ),
        }
    }
}

/// What an operator may ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QuotaChoice {
    /// The best that there is.
    #[default]
    Automatic,
    /// This one, or no workspace at all.
    Only(QuotaDriver),
}

impl QuotaChoice {
    pub const AUTOMATIC: &'static str = "auto";

    pub fn parse(text: &str) -> Option<Self> {
        match text {
            Self::AUTOMATIC => Some(Self::Automatic),
            _ => QuotaDriver::parse(text).map(Self::Only),
        }
    }
}

/// What was found about one driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    pub driver: QuotaDriver,
    pub is_usable: bool,
    /// What it would do here, or why it cannot be had.
    pub detail: String,
    /// What makes it usable.
    pub remedy: Option<String>,
}

/// What decides. A test writes it down; [`Facts::gather`] looks at the machine.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) root: PathBuf,
    /// The mount that the workspaces lie in.
    pub(crate) mount: Option<MountLine>,
    /// May this process make an ext4 mount? Tried, without mounting anything.
    pub(crate) ext4: Result<(), Errno>,
    /// May it attach a loop device? The control device was opened.
    pub(crate) loop_control: Result<(), String>,
    pub(crate) programs: Programs,
}

impl Facts {
    pub(crate) fn gather(root: &Path, programs: &Programs) -> Self {
        // The directory may not be there yet; then the mount is that of the nearest one above.
        let root = root.ancestors().find_map(|path| path.canonicalize().ok()).unwrap_or_else(|| root.to_owned());
        let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control");
        Self {
            mount: mounts::holding(&mounts::read(), &root).cloned(),
            root,
            ext4: fsopen("ext4", FsOpenFlags::FSOPEN_CLOEXEC).map(drop),
            loop_control: control.map(drop).map_err(|source| source.to_string()),
            programs: programs.clone(),
        }
    }

    /// In the order in which they are taken.
    pub(crate) fn examine(&self) -> Vec<Examined> {
        let row = |driver, found: Finding| match found {
            Ok(detail) => Examined { driver, is_usable: true, detail, remedy: None },
            Err((detail, remedy)) => Examined { driver, is_usable: false, detail, remedy: Some(remedy) },
        };
        let always = |driver: QuotaDriver| row(driver, Ok(driver.standing().1.to_owned()));
        vec![
            row(QuotaDriver::Project, self.project()),
            row(QuotaDriver::Image, self.image()),
            always(QuotaDriver::Tmpfs),
            always(QuotaDriver::Watchdog),
        ]
    }

    fn project(&self) -> Finding {
        let place = self.root.display();
        let Some(mount) = &self.mount else {
            return missing(format!("it is not known what file system {place} lies on"), "mount /proc");
        };
        let programs: &[&str] = match mount.kind.as_str() {
            "ext4" => &["setquota", "chattr"],
            "xfs" => &["xfs_quota"],
            other => {
                return missing(format!("{place} lies on {other}, which has no project quotas"), "use ext4 or xfs");
            }
        };
        if !mount.options.iter().any(|option| ["prjquota", "pquota"].contains(&option.as_str())) {
            let device = &mount.source;
            return missing(
                format!("{place} lies on {} ({device}), mounted without prjquota", mount.kind),
                match mount.kind.as_str() {
                    "ext4" => format!("unmount it, run: tune2fs -O project,quota {device}, and mount it with prjquota"),
                    _ => "mount it with prjquota".to_owned(),
                },
            );
        }
        self.may_administer()?;
        self.installed(programs, "install the packages quota and e2fsprogs, or xfsprogs")?;
        Ok(format!("project quotas of {} at {}", mount.kind, mount.target.display()))
    }

    fn image(&self) -> Finding {
        self.may_administer()?;
        if let Err(source) = &self.loop_control {
            return missing(
                format!("/dev/loop-control cannot be opened: {source}"),
                "load the module loop; give a container the loop devices, or run the server outside of it",
            );
        }
        self.installed(&["mkfs.ext4", "losetup"], "install the packages e2fsprogs and mount")?;
        Ok("each workspace is an ext4 image behind a loop device".to_owned())
    }

    fn may_administer(&self) -> Result<(), (String, String)> {
        match self.ext4 {
            Ok(()) => Ok(()),
            Err(Errno::NODEV) => Err(("the kernel has no ext4".to_owned(), "load the module ext4".to_owned())),
            Err(source) => Err((
                format!("this process may not mount file systems: {source}"),
                "run the server as root, outside of a container that takes CAP_SYS_ADMIN away".to_owned(),
            )),
        }
    }

    fn installed(&self, programs: &[&str], remedy: &str) -> Result<(), (String, String)> {
        let absent: Vec<&str> = programs.iter().copied().filter(|name| self.programs.find(name).is_none()).collect();
        if absent.is_empty() {
            Ok(())
        } else {
            Err((format!("not installed: {}", absent.join(", ")), remedy.to_owned()))
        }
    }
}

type Finding = Result<String, (String, String)>;

fn missing(detail: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Err((detail.into(), remedy.into()))
}

/// The driver to use. Where no kernel can hold the limit, `is_strict` decides between a workspace that is exact and does not
/// last, and one that lasts and is measured.
pub(crate) fn choose(examined: &[Examined], choice: QuotaChoice, is_strict: bool) -> Result<QuotaDriver> {
    let usable = |wanted: QuotaDriver| examined.iter().find(|row| row.driver == wanted && row.is_usable).is_some();
    match choice {
        QuotaChoice::Only(driver) if usable(driver) => Ok(driver),
        QuotaChoice::Only(driver) => {
            let row = examined.iter().find(|row| row.driver == driver);
            let why = row.map_or("nothing is known about it", |row| row.detail.as_str());
            Err(Fault::new(
                Code::WORKSPACE_UNAVAILABLE,
                format!("workspaces of kind {} cannot be had: {why}", driver.as_str()),
            )
            .hint(row.and_then(|row| row.remedy.clone()).unwrap_or_default()))
        }
        QuotaChoice::Automatic => {
            let last = if is_strict { QuotaDriver::Tmpfs } else { QuotaDriver::Watchdog };
            let better = [QuotaDriver::Project, QuotaDriver::Image].into_iter().find(|driver| usable(*driver));
            Ok(better.unwrap_or(last))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A machine that has everything.
    fn facts(kind: &str, options: &str) -> (Facts, tempfile::TempDir) {
        let programs = tempfile::tempdir().unwrap();
        for name in ["setquota", "chattr", "xfs_quota", "mkfs.ext4", "losetup"] {
            fs::write(programs.path().join(name), "").unwrap();
        }
        let line = format!("27 1 254:0 / / rw - {kind} /dev/vda {options}");
        let facts = Facts {
            root: PathBuf::from("/var/lib/agent-os/work"),
            mount: mounts::parse(&line).pop(),
            ext4: Ok(()),
            loop_control: Ok(()),
            programs: Programs::in_directory(programs.path()),
        };
        (facts, programs)
    }

    /// `expected`: what the detail says where the driver is missing.
    fn check(facts: &Facts, driver: QuotaDriver, expected: Option<&str>) {
        let row = facts.examine().into_iter().find(|row| row.driver == driver).unwrap();
        assert_eq!(row.is_usable, expected.is_none(), "{row:?}");
        assert_eq!(row.remedy.is_some(), expected.is_some(), "{row:?}");
        assert!(expected.is_none_or(|word| row.detail.contains(word)), "{row:?}");
    }

    #[test]
    fn each_driver_is_usable_or_says_what_is_missing() {
        use QuotaDriver::{Image, Project, Tmpfs, Watchdog};
        let (whole, programs) = facts("ext4", "rw,prjquota");
        for driver in QuotaDriver::ALL {
            check(&whole, driver, None);
        }
        check(&Facts { mount: facts("xfs", "rw,prjquota").0.mount, ..whole.clone() }, Project, None);
        check(&facts("ext4", "rw,usrquota").0, Project, Some("without prjquota"));
        check(&facts("btrfs", "rw,prjquota").0, Project, Some("btrfs, which has no"));
        check(&Facts { mount: None, ..whole.clone() }, Project, Some("not known"));
        let plain = Facts { ext4: Err(Errno::PERM), ..whole.clone() };
        check(&plain, Project, Some("may not mount"));
        check(&plain, Image, Some("may not mount"));
        check(&plain, Tmpfs, None);
        check(&plain, Watchdog, None);
        check(&Facts { ext4: Err(Errno::NODEV), ..whole.clone() }, Image, Some("no ext4"));
        check(&Facts { loop_control: Err("denied".into()), ..whole.clone() }, Image, Some("loop-control"));
        fs::remove_file(programs.path().join("losetup")).unwrap();
        check(&whole, Image, Some("not installed: losetup"));
        fs::remove_file(programs.path().join("setquota")).unwrap();
        check(&whole, Project, Some("not installed: setquota"));
    }

    #[test]
    fn the_best_is_taken_and_what_was_asked_for_is_never_replaced() {
        let (whole, _programs) = facts("ext4", "rw,prjquota");
        let without_quota = Facts { mount: None, ..whole.clone() };
        let nothing = Facts { ext4: Err(Errno::PERM), ..whole.clone() };
        for (facts, is_strict, expected) in [
            (&whole, false, QuotaDriver::Project),
            (&without_quota, true, QuotaDriver::Image),
            (&nothing, false, QuotaDriver::Watchdog),
            (&nothing, true, QuotaDriver::Tmpfs),
        ] {
            assert_eq!(choose(&facts.examine(), QuotaChoice::Automatic, is_strict).unwrap(), expected);
        }
        for driver in QuotaDriver::ALL {
            assert_eq!(choose(&whole.examine(), QuotaChoice::Only(driver), true).unwrap(), driver);
            assert_eq!(QuotaChoice::parse(driver.as_str()), Some(QuotaChoice::Only(driver)));
        }
        let refused = choose(&nothing.examine(), QuotaChoice::Only(QuotaDriver::Image), false).unwrap_err();
        assert!(refused.message.contains("may not mount") && refused.hint.is_some(), "{refused:?}");
        assert_eq!(QuotaChoice::parse("auto"), Some(QuotaChoice::Automatic));
        assert_eq!(QuotaChoice::parse("zfs"), None);
    }

    #[test]
    fn looking_changes_nothing() {
        let root = tempfile::tempdir().unwrap();
        let absent = root.path().join("not/made/yet");
        assert_eq!(Facts::gather(&absent, &Programs::of_the_system()).examine().len(), QuotaDriver::ALL.len());
        assert!(fs::read_dir(root.path()).unwrap().next().is_none());
    }
}
