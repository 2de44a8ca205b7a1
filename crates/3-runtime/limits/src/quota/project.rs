//! A workspace as a directory with a project quota of its file system: every file made in it belongs to the project, and the
//! kernel refuses what goes beyond.
//!
//! The number of a project is ours alone when it was given out here; it is written down, because a number that two agents
//! shared would be one quota for both. A process inside a user namespace cannot change the project of its files.

use std::{fs, path::Path};

use agentos_types::{Code, Fault, Result};
use rustix::fs::statvfs;

use super::{
    Bounds,
    copy::{Cap, copy},
    mounts,
    mounts::MountLine,
    place::{Places, holds_something, make_private, replace, unavailable},
    programs::{Programs, text},
};

/// Numbers of projects begin here, far above what people give out by hand (`/etc/projid`).
const NUMBER_FIRST: u32 = 1_600_000_000;
/// One installation's agents, living and gone.
const NUMBERS_MAX: u32 = 1_000_000;
const KIBIBYTE: u64 = 1024;

pub(super) struct Projects<'p> {
    pub(super) places: &'p Places,
    pub(super) programs: &'p Programs,
}

impl Projects<'_> {
    /// Puts the directory of the workspace, which exists, under its bound. A file joins the project in which it is made, so
    /// that what was there before is copied into a directory that is of the project already, and that takes its place.
    pub(super) fn bound(&self, name: &str, bounds: Bounds, owner: u32) -> Result<()> {
        let path = self.places.workspace(name);
        let lines = mounts::read();
        let mount = mounts::holding(&lines, &path).ok_or_else(|| unavailable(&path, &"its mount is not known"))?;
        let number = number(self.places, name)?.to_string();
        let (kibibytes, files) = (bounds.bytes.div_ceil(KIBIBYTE), bounds.files);
        self.run(limit(mount, &number, kibibytes, files)?)?;
        if self.is_member(&path)? {
            return Ok(());
        }
        if !holds_something(&path) {
            return self.run(join(mount, &number, &path)?);
        }
        let (filled, moved) = (self.places.staging(&format!("{name}.filled")), self.places.moved(name));
        for leftover in [&filled, &moved] {
            super::image::remove_tree(leftover);
        }
        make_private(&filled).map_err(|source| unavailable(&filled, &source))?;
        self.run(join(mount, &number, &filled)?)?;
        copy(&path, &filled, Cap { bytes: bounds.bytes, files: bounds.files }, owner)?;
        // Between the two renames the start of the next server puts the first one back.
        fs::rename(&path, &moved).map_err(|source| unavailable(&path, &source))?;
        fs::rename(&filled, &path).map_err(|source| unavailable(&path, &source))?;
        super::image::remove_tree(&moved);
        Ok(())
    }

    /// Inside of a bounded project the kernel tells the bound as the size of the file system.
    fn is_member(&self, path: &Path) -> Result<bool> {
        let blocks =
            |path: &Path| statvfs(path).map(|found| found.f_blocks).map_err(|source| unavailable(path, &source));
        Ok(blocks(path)? != blocks(self.places.root())?)
    }

    fn run(&self, (program, words): Line) -> Result<()> {
        self.programs.run(program, &words.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

/// A program and its arguments.
type Line = (&'static str, Vec<String>);

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn limit(mount: &MountLine, number: &str, kibibytes: u64, files: u64) -> Result<Line> {
    let top = text(&mount.target)?;
    match mount.kind.as_str() {
        "ext4" => Ok(("setquota", words(&["-P", number, "0", &kibibytes.to_string(), "0", &files.to_string(), top]))),
        "xfs" => {
            let order = format!("limit -p bsoft=0 bhard={kibibytes}k isoft=0 ihard={files} {number}");
            Ok(("xfs_quota", words(&["-x", "-c", &order, top])))
        }
        other => Err(none(other)),
    }
}

/// Of an empty directory: what is made in it from then on belongs to the project.
fn join(mount: &MountLine, number: &str, directory: &Path) -> Result<Line> {
    let (top, path) = (text(&mount.target)?, text(directory)?);
    match mount.kind.as_str() {
        "ext4" => Ok(("chattr", words(&["-p", number, "+P", path]))),
        // Its commands are one text each, so that a blank would divide a path.
        "xfs" if path.contains(char::is_whitespace) => {
            let message = "project quotas of xfs cannot be set on a path with blanks";
            Err(Fault::new(Code::WORKSPACE_UNAVAILABLE, message).detail(path))
        }
        "xfs" => Ok(("xfs_quota", words(&["-x", "-c", &format!("project -s -p {path} {number}"), top]))),
        other => Err(none(other)),
    }
}

fn none(kind: &str) -> Fault {
    Fault::new(Code::WORKSPACE_UNAVAILABLE, format!("{kind} has no project quotas"))
}

/// The number that this workspace has, or the next free one.
fn number(places: &Places, name: &str) -> Result<u32> {
    let path = places.project(name);
    if let Ok(text) = fs::read_to_string(&path) {
        return text.parse().map_err(|source| unavailable(&path, &source));
    }
    let directory = places.project("");
    let given = fs::read_dir(&directory).map_err(|source| unavailable(&directory, &source))?;
    let last = given
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path()).ok()?.parse::<u32>().ok())
        .max()
        .unwrap_or(NUMBER_FIRST);
    let next = last + 1;
    if next > NUMBER_FIRST + NUMBERS_MAX {
        return Err(Fault::new(Code::WORKSPACE_UNAVAILABLE, "all numbers of project quotas are given out")
            .hint("remove the files of agents that are gone from .quota/projects"));
    }
    replace(&path, &next.to_string())?;
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: &str, directory: &str, expected: Option<[&str; 2]>) {
        let line = format!("27 1 254:0 / / rw - {kind} /dev/vda rw,prjquota");
        let mount = mounts::parse(&line).pop().unwrap();
        let told = |line: Result<Line>| line.ok().map(|(program, words)| format!("{program} {}", words.join(" ")));
        let made =
            [limit(&mount, "1600000001", 1024, 2048), join(&mount, "1600000001", Path::new(directory))].map(told);
        match expected {
            Some(lines) => assert_eq!(made, lines.map(|line| Some(line.to_owned()))),
            None => assert!(made.contains(&None), "{made:?}"),
        }
    }

    #[test]
    fn the_programs_get_the_bound_in_their_own_words() {
        check(
            "ext4",
            "/work/a b",
            Some(["setquota -P 1600000001 0 1024 0 2048 /", "chattr -p 1600000001 +P /work/a b"]),
        );
        check(
            "xfs",
            "/work/a",
            Some([
                "xfs_quota -x -c limit -p bsoft=0 bhard=1024k isoft=0 ihard=2048 1600000001 /",
                "xfs_quota -x -c project -s -p /work/a 1600000001 /",
            ]),
        );
        check("xfs", "/work/a b", None);
        check("btrfs", "/work/a", None);
    }

    #[test]
    fn every_workspace_has_a_number_of_its_own_and_keeps_it() {
        let root = tempfile::tempdir().unwrap();
        let places = Places::open(root.path()).unwrap();
        let numbers: Vec<u32> = ["a", "b", "a", "c"].map(|name| number(&places, name).unwrap()).to_vec();
        assert_eq!(numbers, [1_600_000_001, 1_600_000_002, 1_600_000_001, 1_600_000_003]);
        fs::write(places.project("b"), "not a number").unwrap();
        assert!(number(&places, "b").is_err(), "a number is not guessed");
    }
}
