//! A workspace as a directory with a project quota of its file system: every file made in it belongs to the project, and the
//! kernel refuses what goes beyond.
//!
//! The number of a project is ours alone when it was given out here; it is written down, because a number that two agents
//! shared would be one quota for both. A process inside a user namespace cannot change the project of its files.

use std::fs;

use agentos_types::{Code, Fault, Result};

use super::{
    Bounds, mounts,
    place::{Places, replace, unavailable},
    programs::{Programs, text},
};

/// Numbers of projects begin here, far above what people give out by hand (`/etc/projid`).
const NUMBER_FIRST: u32 = 1_600_000_000;
/// One installation's agents, living and gone.
const NUMBERS_MAX: u32 = 1_000_000;
const KIBIBYTE: u64 = 1024;

/// Puts the directory of the workspace, which exists, under its bound.
pub(super) fn bound(places: &Places, programs: &Programs, name: &str, bounds: Bounds) -> Result<()> {
    let path = places.workspace(name);
    let lines = mounts::read();
    let mount = mounts::holding(&lines, &path).ok_or_else(|| unavailable(&path, &"its mount is not known"))?;
    let number = number(places, name)?.to_string();
    let (directory, top) = (text(&path)?, text(&mount.target)?);
    let (kibibytes, files) = (bounds.bytes.div_ceil(KIBIBYTE), bounds.files.to_string());
    for (program, arguments) in commands(&mount.kind, &number, directory, top, kibibytes, &files)? {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        programs.run(program, &arguments)?;
    }
    Ok(())
}

type Commands = Vec<(&'static str, Vec<String>)>;

/// First the directory with all that is in it joins the project, then the project has its bound.
fn commands(kind: &str, number: &str, directory: &str, top: &str, kibibytes: u64, files: &str) -> Result<Commands> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let kibibytes = kibibytes.to_string();
    match kind {
        "ext4" => Ok(vec![
            ("chattr", words(&["-R", "-f", "-p", number, "+P", directory])),
            ("setquota", words(&["-P", number, "0", &kibibytes, "0", files, top])),
        ]),
        // Its commands are one text each, so that a blank would divide a path.
        "xfs" if directory.contains(char::is_whitespace) => {
            Err(Fault::new(Code::WORKSPACE_UNAVAILABLE, "project quotas of xfs cannot be set on a path with blanks")
                .detail(directory))
        }
        "xfs" => {
            let limit = format!("limit -p bsoft=0 bhard={kibibytes}k isoft=0 ihard={files} {number}");
            Ok(vec![
                ("xfs_quota", words(&["-x", "-c", &format!("project -s -p {directory} {number}"), top])),
                ("xfs_quota", words(&["-x", "-c", &limit, top])),
            ])
        }
        other => Err(Fault::new(Code::WORKSPACE_UNAVAILABLE, format!("{other} has no project quotas"))),
    }
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

    fn check(kind: &str, directory: &str, expected: Option<&[&str]>) {
        let made = commands(kind, "1600000001", directory, "/", 1024, "2048").ok();
        let lines = made.map(|commands| {
            commands.into_iter().map(|(program, words)| format!("{program} {}", words.join(" "))).collect::<Vec<_>>()
        });
        assert_eq!(
            lines.as_deref(),
            expected.map(|lines| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>()).as_deref()
        );
    }

    #[test]
    fn the_programs_get_the_bound_in_their_own_words() {
        check(
            "ext4",
            "/work/a b",
            Some(&["chattr -R -f -p 1600000001 +P /work/a b", "setquota -P 1600000001 0 1024 0 2048 /"]),
        );
        check(
            "xfs",
            "/work/a",
            Some(&[
                "xfs_quota -x -c project -s -p /work/a 1600000001 /",
                "xfs_quota -x -c limit -p bsoft=0 bhard=1024k isoft=0 ihard=2048 1600000001 /",
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
