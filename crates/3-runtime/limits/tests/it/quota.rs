//! The drivers of workspaces that need more than the usual machine has: a file system with project quotas, and all of root's
//! capabilities. Where they are missing, that is said; `make test-vm` has them, and there nothing may be left out.

use std::{
    env,
    fs::{self, File},
    io::Write,
    path::Path,
};

use agentos_limits::{
    GroupLimits, Resource,
    quota::{QuotaChoice, QuotaDriver, Workspace, WorkspaceOptions, Workspaces},
};

use crate::harness::{MIB, Shell, cgroups, group};

const LIMIT: u64 = 8 << 20;
/// Set where every driver has to be there.
const ALL: &str = "AGENTOS_ALL_QUOTAS";

/// A directory on the disk of the tests, and the driver there.
fn open(driver: QuotaDriver) -> Option<(tempfile::TempDir, Workspaces)> {
    let disk = env::var_os("AGENTOS_DISK").map_or_else(env::temp_dir, Into::into);
    let root = tempfile::tempdir_in(disk).unwrap();
    let options =
        WorkspaceOptions { root: root.path().to_owned(), choice: QuotaChoice::Only(driver), is_strict: false };
    let workspaces = Workspaces::open(options);
    let row = workspaces.examined().iter().find(|row| row.driver == driver).unwrap();
    if row.is_usable {
        return Some((root, workspaces));
    }
    assert!(env::var_os(ALL).is_none(), "{driver:?} has to be usable here: {}", row.detail);
    println!("left out: {}", row.detail);
    None
}

/// What could be written into one file.
fn fill(workspace: &Workspace, name: &str, bytes_max: u64) -> u64 {
    let mut file = File::create(workspace.path().unwrap().join(name)).unwrap();
    let mut written = 0;
    while written < bytes_max {
        match file.write(&[7; 64 << 10]) {
            Ok(count) => written += count as u64,
            Err(_) => break,
        }
    }
    written
}

fn files(workspace: &Workspace, count: u64) -> u64 {
    let path = |number: u64| workspace.path().unwrap().join(format!("f{number}"));
    (0..count).take_while(|number| File::create(path(*number)).is_ok()).count() as u64
}

#[test]
fn a_project_quota_holds_bytes_and_files_of_one_agent_alone() {
    let Some((_root, workspaces)) = open(QuotaDriver::Project) else { return };
    let (mine, other) = (workspaces.prepare("mine", LIMIT, Some(70_001)), workspaces.prepare("other", LIMIT, None));
    let (mine, other) = (mine.unwrap(), other.unwrap());
    // Root may pass quotas; what counts is whose files they are.
    let as_agent = |script: &str| {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid", "70001", "--regid", "70001", "--clear-groups", "sh", "-c", script]);
        command.current_dir(mine.path().unwrap()).status().unwrap().success()
    };
    assert!(!as_agent("dd if=/dev/zero of=big bs=64k count=1000 2>/dev/null"));
    let used = mine.usage();
    assert!(used.bytes <= LIMIT && used.bytes > LIMIT / 2 && used.bytes_max == LIMIT, "{used:?}");
    assert!(as_agent("rm big && mkdir deep && dd if=/dev/zero of=deep/small bs=64k count=1 2>/dev/null"));
    assert!(!as_agent("i=0; while [ $i -lt 1100 ]; do : >deep/f$i || exit 1; i=$((i+1)); done"));
    assert!(mine.usage().files <= mine.usage().files_max);
    assert_eq!(fill(&other, "file", LIMIT / 2), LIMIT / 2, "another agent has its own room");
    assert_eq!(files(&other, 100), 100);
}

#[test]
fn a_project_quota_takes_what_was_there_and_changes_with_the_limit() {
    let Some((root, workspaces)) = open(QuotaDriver::Project) else { return };
    fs::create_dir_all(root.path().join("mine/deep")).unwrap();
    fs::write(root.path().join("mine/deep/note"), vec![1; 3 << 20]).unwrap();
    std::os::unix::fs::symlink("note", root.path().join("mine/deep/link")).unwrap();
    let workspace = workspaces.prepare("mine", LIMIT, None).unwrap();
    assert!(workspace.usage().bytes >= 3 << 20, "what was there counts: {:?}", workspace.usage());
    let larger = workspaces.prepare("mine", 2 * LIMIT, None).unwrap();
    assert_eq!(larger.usage().bytes_max, 2 * LIMIT);
    assert_eq!(fs::metadata(root.path().join("mine/deep/note")).unwrap().len(), 3 << 20);
}

#[test]
fn an_image_grows_where_it_lies_and_keeps_its_data() {
    let Some((root, workspaces)) = open(QuotaDriver::Image) else { return };
    let workspace = workspaces.prepare("mine", LIMIT, None).unwrap();
    assert_eq!(fill(&workspace, "kept", LIMIT / 2), LIMIT / 2);
    let number = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let image = root.path().join(".quota/images/mine.ext4");
    let before = number(&image);
    let larger = workspaces.prepare("mine", 3 * LIMIT, None).unwrap();
    assert!(larger.usage().bytes_max > 2 * LIMIT, "{:?}", larger.usage());
    assert_eq!(fill(&larger, "more", LIMIT), LIMIT);
    if env::var_os(ALL).is_some() {
        assert_eq!(number(&image), before, "with all capabilities nothing is copied");
    }
}

#[test]
fn writes_into_an_image_keep_to_the_speed_of_the_disk() {
    let Some((_root, workspaces)) = open(QuotaDriver::Image) else { return };
    let Some(cgroups) = cgroups("image-speed", &[Resource::DiskSpeed]) else { return };
    let workspace = workspaces.prepare("mine", LIMIT, None).unwrap();
    let limits = GroupLimits { disk_bytes_per_second: Some(2 * MIB), ..GroupLimits::default() };
    let bounded = group(&cgroups, "bounded", &limits.writing_to(workspace.path()));
    let file = workspace.path().unwrap().join("file");
    let begin = std::time::Instant::now();
    let script = format!("exec dd if=/dev/zero of={} bs=256k count=16 oflag=direct", file.display());
    assert!(Shell::start(&bounded, &script).wait().success());
    // 4 MiB at 2 MiB a second, of which the first part is free. A slow machine only makes it longer.
    assert!(begin.elapsed().as_millis() >= 1_200, "{:?}", begin.elapsed());
    let used = bounded.usage().disk.unwrap();
    assert!((4 * MIB..8 * MIB).contains(&used.write_bytes), "{used:?}");
}
