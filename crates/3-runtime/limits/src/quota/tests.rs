//! Attacks on the bound of a workspace, and what a killed server leaves.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, ErrorKind, Write},
    os::unix::fs::{FileExt, MetadataExt},
    process::{Command, Stdio},
};

use super::*;

mod devices;

const LIMIT: u64 = 8 << 20;
const CHUNK: usize = 64 << 10;

/// Names the root to the test that plays a server which is killed.
const HOLD: &str = "AGENTOS_TEST_HOLD_WORKSPACES";

fn open(root: &Path, driver: QuotaDriver) -> Workspaces {
    Workspaces::open(WorkspaceOptions { root: root.to_owned(), choice: QuotaChoice::Only(driver), is_strict: false })
}

/// The tests of images need root and loop devices; where they are missing, that is said.
fn images(root: &Path) -> Option<Workspaces> {
    let examined = examine(root);
    let row = examined.iter().find(|row| row.driver == QuotaDriver::Image).unwrap();
    if !row.is_usable {
        eprintln!("left out: {}", row.detail);
        return None;
    }
    Some(open(root, QuotaDriver::Image))
}

fn mounted_below(root: &Path) -> usize {
    let root = root.canonicalize().unwrap();
    mounts::read().iter().filter(|line| line.target.starts_with(&root)).count()
}

/// Writes until it is refused; gives what was written and why it ended.
fn fill(path: &Path, bytes_max: u64) -> (u64, Option<ErrorKind>) {
    let mut file = File::create(path).unwrap();
    let mut written = 0;
    while written < bytes_max {
        match file.write(&[7; CHUNK]) {
            Ok(count) => written += count as u64,
            Err(source) => return (written, Some(source.kind())),
        }
    }
    // The disk may refuse later what memory took.
    (written, file.sync_all().err().map(|source| source.kind()))
}

#[test]
fn one_file_fills_the_image_to_its_limit_and_no_other() {
    let root = tempfile::tempdir().unwrap();
    let Some(workspaces) = images(root.path()) else { return };
    let (mine, other) =
        (workspaces.prepare("mine", LIMIT, None).unwrap(), workspaces.prepare("other", LIMIT, None).unwrap());
    let (written, refused) = fill(&mine.path().unwrap().join("big"), 4 * LIMIT);
    assert_eq!(refused, Some(ErrorKind::StorageFull));
    assert!(written <= LIMIT && written > LIMIT / 2, "{written}");
    let used = mine.check(&[]).unwrap();
    assert!(used.bytes_max <= LIMIT && used.bytes <= used.bytes_max && used.bytes >= written, "{used:?}");
    let (written, refused) = fill(&other.path().unwrap().join("file"), LIMIT / 2);
    assert_eq!((written, refused), (LIMIT / 2, None), "another agent has its own room");
}

#[test]
fn many_files_end_at_the_inodes_of_the_image() {
    let root = tempfile::tempdir().unwrap();
    let Some(workspaces) = images(root.path()) else { return };
    let workspace = workspaces.prepare("mine", LIMIT, None).unwrap();
    let files_max = workspace.usage().files_max;
    let made =
        (0..=files_max).take_while(|i| File::create(workspace.path().unwrap().join(i.to_string())).is_ok()).count();
    assert!((made as u64) < files_max, "{made} of {files_max}");
    assert!(workspace.usage().files >= made as u64);
}

#[test]
fn a_file_of_eight_exbibytes_takes_no_room_and_no_time() {
    let root = tempfile::tempdir().unwrap();
    let Some(workspaces) = images(root.path()) else { return };
    let workspace = workspaces.prepare("mine", LIMIT, None).unwrap();
    let path = workspace.path().unwrap().join("sparse");
    let file = File::create(&path).unwrap();
    let refused = file.set_len(i64::MAX as u64).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::FileTooLarge);
    file.set_len(1 << 33).unwrap();
    file.write_at(b"x", (1 << 33) - 1).unwrap();
    file.sync_all().unwrap();
    assert!(workspace.usage().bytes < LIMIT / 2);
    // It moves as what it is: a byte at the end of a hole.
    drop((workspace, workspaces));
    let directories = open(root.path(), QuotaDriver::Watchdog);
    let moved = directories.prepare("mine", LIMIT, None).unwrap();
    assert_eq!(fs::metadata(path).unwrap().len(), 1 << 33);
    moved.check(&[]).unwrap();
}

#[test]
fn nothing_is_left_after_the_last_handle_and_data_survive() {
    let root = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let Some(workspaces) = images(root.path()) else { return };
        let workspace = workspaces.prepare("mine", LIMIT, None).unwrap();
        assert_eq!(mounted_below(root.path()), 1);
        let path = workspace.path().unwrap().join("count");
        assert_eq!(fs::read_to_string(&path).unwrap_or_default(), "x".repeat(round));
        fs::write(path, "x".repeat(round + 1)).unwrap();
        drop(workspaces);
        assert_eq!(mounted_below(root.path()), 1, "a workspace that is held stays");
        drop(workspace);
        assert_eq!(mounted_below(root.path()), 0);
    }
}

#[test]
fn many_agents_start_and_end_at_once() {
    const AGENTS: usize = 24;
    let root = tempfile::tempdir().unwrap();
    let Some(workspaces) = images(root.path()) else { return };
    let names: Vec<String> = (0..AGENTS).map(|number| format!("agent-{number}")).collect();
    std::thread::scope(|threads| {
        for name in &names {
            // Each twice: one makes it, the other one waits and finds it.
            for _ in 0..2 {
                let workspaces = &workspaces;
                threads.spawn(move || {
                    let workspace = workspaces.prepare(name, LIMIT, None).unwrap();
                    fs::write(workspace.path().unwrap().join("name"), name).unwrap();
                });
            }
        }
    });
    assert_eq!(mounted_below(root.path()), AGENTS);
    for name in &names {
        assert_eq!(fs::read_to_string(root.path().join(name).join("name")).unwrap(), *name);
    }
    let other_handle = workspaces.clone();
    workspaces.close();
    assert_eq!(mounted_below(root.path()), 0);
    assert_eq!(other_handle.driver(), QuotaDriver::Image);
}

#[test]
fn after_the_close_nothing_is_mounted_any_more() {
    const AGENTS: usize = 8;
    let root = tempfile::tempdir().unwrap();
    let Some(workspaces) = images(root.path()) else { return };
    let (begun, is_begun) = std::sync::mpsc::channel();
    std::thread::scope(|threads| {
        for number in 0..AGENTS {
            let (workspaces, begun) = (&workspaces, begun.clone());
            threads.spawn(move || {
                let name = format!("agent-{number}");
                begun.send(()).unwrap();
                // Some come before the close, some in the middle of it, and each goes on until it is told to stop.
                let refused = loop {
                    match workspaces.prepare(&name, LIMIT, None) {
                        Ok(_) => workspaces.release(&name).unwrap(),
                        Err(fault) => break fault,
                    }
                };
                assert_eq!(refused.code, Code::SHUTTING_DOWN, "{refused}");
            });
        }
        (0..AGENTS).for_each(|_| is_begun.recv().unwrap());
        workspaces.close();
        assert_eq!(mounted_below(root.path()), 0, "whoever was in the middle was waited for");
    });
    assert_eq!(mounted_below(root.path()), 0);
}

#[test]
fn a_mount_that_is_in_use_at_the_end_is_gone_from_here() {
    let root = tempfile::tempdir().unwrap();
    let Some(workspaces) = images(root.path()) else { return };
    let workspace = workspaces.prepare("mine", LIMIT, None).unwrap();
    let mut user = File::create(workspace.path().unwrap().join("open")).unwrap();
    drop((workspaces, workspace));
    assert_eq!(mounted_below(root.path()), 0);
    user.write_all(b"still there").unwrap();
    // The image is mounted again while its file system still lives: it is the same one, never two on one file.
    let workspaces = open(root.path(), QuotaDriver::Image);
    let workspace = workspaces.prepare("mine", LIMIT, None).unwrap();
    assert_eq!(fs::read_to_string(workspace.path().unwrap().join("open")).unwrap(), "still there");
}

#[test]
fn a_larger_and_a_smaller_limit_take_the_data_along() {
    let root = tempfile::tempdir().unwrap();
    let Some(workspaces) = images(root.path()) else { return };
    let workspace = workspaces.prepare("mine", LIMIT, None).unwrap();
    fs::write(workspace.path().unwrap().join("kept"), vec![1; 3 << 20]).unwrap();
    let larger = workspaces.prepare("mine", 4 * LIMIT, None).unwrap();
    assert!(larger.usage().bytes_max > 3 * LIMIT, "{:?}", larger.usage());
    assert_eq!(fill(&larger.path().unwrap().join("more"), 2 * LIMIT), (2 * LIMIT, None));
    let refused = workspaces.prepare("mine", LIMIT, None).unwrap_err();
    assert_eq!(refused.code, Code::WORKSPACE_LIMIT, "what does not fit is not cut: {refused}");
    workspaces.prepare("mine", 4 * LIMIT, None).unwrap();
    fs::remove_file(larger.path().unwrap().join("more")).unwrap();
    let smaller = workspaces.prepare("mine", LIMIT, None).unwrap();
    assert!(smaller.usage().bytes_max <= LIMIT);
    assert_eq!(fs::read(smaller.path().unwrap().join("kept")).unwrap().len(), 3 << 20);
}

#[test]
fn the_user_of_an_agent_owns_its_workspace() {
    let root = tempfile::tempdir().unwrap();
    let Some(workspaces) = images(root.path()) else { return };
    let owner = |path: &Path| fs::symlink_metadata(path).map(|found| (found.uid(), found.gid())).unwrap();
    let workspace = workspaces.prepare("mine", LIMIT, Some(70_001)).unwrap();
    let path = workspace.path().unwrap();
    assert_eq!(owner(path), (70_001, 70_001));
    assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o700);
    assert_eq!(fs::read_dir(path).unwrap().count(), 0, "empty, without lost+found");
    fs::write(path.join("file"), "x").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", path.join("link")).unwrap();
    workspaces.prepare("mine", LIMIT, Some(70_002)).unwrap();
    assert_eq!(owner(path), (70_002, 70_002));
    for name in ["file", "link"] {
        // Made by root and so not by the agent; what changes hands is everything.
        assert_eq!(owner(&path.join(name)), (70_002, 70_002), "{name}");
    }
    assert_eq!(owner(Path::new("/etc/passwd")).0, 0);
}

#[test]
fn data_move_once_with_the_driver_in_both_directions() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("mine");
    fs::create_dir_all(path.join("deep")).unwrap();
    fs::write(path.join("deep/note"), "from before").unwrap();
    let Some(workspaces) = images(root.path()) else { return };
    workspaces.prepare("mine", LIMIT, None).unwrap();
    assert_eq!(mounted_below(root.path()), 1);
    assert_eq!(fs::read_to_string(path.join("deep/note")).unwrap(), "from before");
    fs::write(path.join("deep/note"), "newer").unwrap();
    drop(workspaces);
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0, "there is one place, and this is not it");
    let directories = open(root.path(), QuotaDriver::Watchdog);
    directories.prepare("mine", LIMIT, None).unwrap();
    assert_eq!(mounted_below(root.path()), 0);
    assert_eq!(fs::read_to_string(path.join("deep/note")).unwrap(), "newer");
    assert!(!root.path().join(".quota/images/mine.ext4").exists());
    drop(directories);
    open(root.path(), QuotaDriver::Image).prepare("mine", LIMIT, None).unwrap();
    assert!(root.path().join(".quota/images/mine.ext4").exists());
}

#[test]
fn data_that_do_not_fit_stay_where_they_are() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("mine")).unwrap();
    fs::write(root.path().join("mine/big"), vec![1; 2 * LIMIT as usize]).unwrap();
    let Some(workspaces) = images(root.path()) else { return };
    let refused = workspaces.prepare("mine", LIMIT, None).unwrap_err();
    assert_eq!(refused.code, Code::WORKSPACE_LIMIT, "{refused}");
    assert_eq!(mounted_below(root.path()), 0);
    assert_eq!(fs::metadata(root.path().join("mine/big")).unwrap().len(), 2 * LIMIT);
    workspaces.prepare("mine", 4 * LIMIT, None).unwrap();
    assert_eq!(fs::metadata(root.path().join("mine/big")).unwrap().len(), 2 * LIMIT);
}

/// Every instant of a move at which the server may die, as what it leaves on the disk.
#[test]
fn a_move_that_broke_off_anywhere_has_one_true_place() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("mine");
    let quota = root.path().join(".quota");
    let Some(workspaces) = images(root.path()) else { return };
    let truth = |word: &str| fs::read_to_string(path.join("note")).unwrap() == word;

    // The image is made and named, but does not count yet; the directory is put aside or not.
    drop(workspaces);
    for put_aside in [false, true] {
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("note"), "true").unwrap();
        fs::write(quota.join("images/mine.ext4"), "half a copy").unwrap();
        fs::write(quota.join("images/mine.new"), "another").unwrap();
        if put_aside {
            fs::rename(&path, quota.join("moved/mine")).unwrap();
        }
        let directories = open(root.path(), QuotaDriver::Watchdog);
        directories.prepare("mine", LIMIT, None).unwrap();
        assert!(truth("true"), "put aside: {put_aside}");
        assert_eq!(fs::read_dir(quota.join("images")).unwrap().count(), 0);
    }

    // The image counts, and the directory that was copied is still there.
    let workspaces = open(root.path(), QuotaDriver::Image);
    let workspace = workspaces.prepare("mine", LIMIT, None).unwrap();
    drop((workspace, workspaces));
    fs::create_dir_all(quota.join("moved/mine")).unwrap();
    fs::write(quota.join("moved/mine/note"), "stale").unwrap();
    let workspaces = open(root.path(), QuotaDriver::Image);
    workspaces.prepare("mine", LIMIT, None).unwrap();
    assert!(truth("true") && !quota.join("moved/mine").exists());
    drop(workspaces);

    // On the way back the directory is in its place, but the image still counts.
    fs::write(path.join("note"), "half a copy").unwrap();
    let directories = open(root.path(), QuotaDriver::Watchdog);
    directories.prepare("mine", LIMIT, None).unwrap();
    assert!(truth("true"));
    assert_eq!(fs::read_to_string(quota.join("moved/mine.found/note")).unwrap(), "half a copy", "put aside, not lost");
}

/// Plays the server that is killed when it is started by the test below; by itself it is a plain use of a workspace.
#[test]
fn holder() {
    let own = tempfile::tempdir().unwrap();
    let told = std::env::var_os(HOLD);
    let root = told.as_ref().map_or(own.path(), |root| Path::new(root));
    let Some(workspaces) = images(root) else { return };
    let workspace = workspaces.prepare("mine", LIMIT, None).unwrap();
    let mut note = File::create(workspace.path().unwrap().join("note")).unwrap();
    note.write_all(b"before the kill").unwrap();
    note.sync_all().unwrap();
    assert_eq!(mounted_below(root), 1);
    if told.is_some() {
        println!("holding");
        // The other side never writes: this ends with the process.
        std::io::stdin().read_line(&mut String::new()).unwrap();
    }
}

#[test]
fn a_killed_server_leaves_a_mount_that_the_next_one_removes_and_keeps_the_data() {
    let root = tempfile::tempdir().unwrap();
    if images(root.path()).is_none() {
        return;
    }
    let mut server = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "quota::tests::holder", "--nocapture"])
        .env(HOLD, root.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(server.stdout.take().unwrap()).lines();
    assert!(said.map_while(Result::ok).any(|line| line.contains("holding")), "it never held a workspace");
    let second = open(root.path(), QuotaDriver::Image);
    assert_eq!(
        second.prepare("mine", LIMIT, None).unwrap_err().code,
        Code::WORKSPACE_UNAVAILABLE,
        "one server at a time"
    );
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(mounted_below(root.path()), 1, "what kill -9 leaves");
    let next = open(root.path(), QuotaDriver::Image);
    assert_eq!(mounted_below(root.path()), 0, "removed before anything is prepared");
    let workspace = next.prepare("mine", LIMIT, None).unwrap();
    assert_eq!(fs::read_to_string(workspace.path().unwrap().join("note")).unwrap(), "before the kill");
}

#[test]
fn a_foreign_image_is_never_mounted() {
    let root = tempfile::tempdir().unwrap();
    let Some(workspaces) = images(root.path()) else { return };
    drop(workspaces.prepare("mine", LIMIT, None).unwrap());
    workspaces.release("mine").unwrap();
    let image = root.path().join(".quota/images/mine.ext4");
    fs::rename(&image, root.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(root.path().join("elsewhere"), &image).unwrap();
    assert_eq!(workspaces.prepare("mine", LIMIT, None).unwrap_err().code, Code::WORKSPACE_UNAVAILABLE, "a link");
    fs::remove_file(&image).unwrap();
    fs::rename(root.path().join("elsewhere"), &image).unwrap();
    fs::set_permissions(&image, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    assert!(workspaces.prepare("mine", LIMIT, None).is_err(), "others could write it");
    assert_eq!(mounted_below(root.path()), 0);
}

#[test]
fn the_watchdog_finds_every_excess_and_says_by_how_much() {
    let root = tempfile::tempdir().unwrap();
    let workspaces = open(root.path(), QuotaDriver::Watchdog);
    let workspace = workspaces.prepare("mine", LIMIT, None).unwrap();
    let path = workspace.path().unwrap();
    workspace.check(&[]).unwrap();
    let excess = |what: &str| {
        let fault = workspace.check(&[]).unwrap_err();
        assert_eq!(fault.code, Code::WORKSPACE_LIMIT);
        assert!(fault.message.contains(what), "{fault}");
        fs::remove_dir_all(path).unwrap();
        workspaces.prepare("mine", LIMIT, None).unwrap().check(&[]).unwrap();
    };
    fill(&path.join("big"), LIMIT + 2 * CHUNK as u64);
    excess("it was passed by 131072 bytes");
    let files_max = Bounds::new(LIMIT).files;
    (0..=files_max).for_each(|i| drop(File::create(path.join(i.to_string())).unwrap()));
    excess(&format!("{} files; limits.workspace_bytes allows", files_max + 1));
    (0..4 * files_max).for_each(|i| drop(File::create(path.join(i.to_string())).unwrap()));
    excess("more files than may be");
    let mut deep = path.to_owned();
    for _ in 0..walk::DEPTH_MAX + 1 {
        deep.push("d");
    }
    fs::create_dir_all(&deep).unwrap();
    excess("deep");
    File::create(path.join("sparse")).unwrap().set_len(1 << 43).unwrap();
    workspace.check(&[]).unwrap();
    // Without a name it is still on the disk.
    let mut nameless = File::create(path.join("short-lived")).unwrap();
    nameless.write_all(&vec![7; 2 * LIMIT as usize]).unwrap();
    nameless.sync_all().unwrap();
    fs::remove_file(path.join("short-lived")).unwrap();
    let fault = workspace.check(&[std::process::id()]).unwrap_err();
    assert!(fault.code == Code::WORKSPACE_LIMIT && fault.message.contains("bytes in 2 files"), "{fault}");
    drop(nameless);
    workspace.check(&[std::process::id()]).unwrap();
}

#[test]
fn memory_is_bounded_by_the_sandbox_and_touches_no_data() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("mine")).unwrap();
    fs::write(root.path().join("mine/note"), "kept").unwrap();
    let workspace = open(root.path(), QuotaDriver::Tmpfs).prepare("mine", LIMIT, None).unwrap();
    let expected = Mount::Tmpfs { target: WORKSPACE_TARGET.into(), bytes: LIMIT, inodes: FILES_MIN, executable: true };
    assert_eq!((workspace.mount(), workspace.path()), (expected, None));
    assert_eq!(fs::read_to_string(root.path().join("mine/note")).unwrap(), "kept");
}

#[test]
fn what_cannot_be_had_refuses_with_the_reason() {
    let root = tempfile::tempdir().unwrap();
    let workspaces = open(root.path(), QuotaDriver::Project);
    let row = workspaces.examined().iter().find(|row| row.driver == QuotaDriver::Project).unwrap();
    if row.is_usable {
        eprintln!("left out: {}", row.detail);
        return;
    }
    let refused = workspaces.prepare("mine", LIMIT, None).unwrap_err();
    assert_eq!(refused.code, Code::WORKSPACE_UNAVAILABLE);
    assert!(refused.message.contains(&row.detail) && refused.hint == row.remedy, "{refused:?}");
    assert!(!root.path().join("mine").exists());
}
