//! One file has one device, whoever brought it; and a server's own devices cost the next workspace nothing.

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::*;

fn with_file(image: &Path) -> Vec<String> {
    loops::devices().unwrap().filter(|name| loops::backing_file(name).is_some_and(|file| file == image)).collect()
}

/// Waits until the last user of the device is gone: a machine may look at each device that changes.
fn is_freed(image: &Path) -> bool {
    let began = std::time::Instant::now();
    while began.elapsed() < std::time::Duration::from_secs(10) {
        if with_file(image).is_empty() {
            return true;
        }
        std::thread::yield_now();
    }
    false
}

fn image(root: &Path, name: &str) -> PathBuf {
    root.canonicalize().unwrap().join(".quota/images").join(format!("{name}.ext4"))
}

/// As `losetup` of a person, who does not say that it is to end with its mount.
fn attach(image: &Path) -> String {
    let said = Programs::of_the_system().ask("losetup", &["--find", "--show", image.to_str().unwrap()]).unwrap();
    said.trim_start_matches("/dev/").to_owned()
}

#[test]
fn what_is_mounted_here_is_not_looked_into_again() {
    const AGENTS: usize = 6;
    let root = tempfile::tempdir().unwrap();
    let Some(workspaces) = images(root.path()) else { return };
    let name = |number: usize| format!("agent-{number}");
    let opened = workspaces.0.opened.as_ref().unwrap();
    for number in 0..AGENTS {
        workspaces.prepare(&name(number), LIMIT, None).unwrap();
        let ours: Vec<String> = (0..=number).flat_map(|number| with_file(&image(root.path(), &name(number)))).collect();
        assert_eq!(ours.len(), number + 1, "one device each: {ours:?}");
        assert!(opened.loops.unknown().unwrap().all(|device| !ours.contains(&device)), "{ours:?}");
    }
    for number in 0..AGENTS {
        let file = image(root.path(), &name(number));
        let device = with_file(&file).pop().unwrap();
        // Held from elsewhere, it outlives the mount, and is a stranger's from then on.
        let held = File::open(loops::node(&device)).unwrap();
        workspaces.release(&name(number)).unwrap();
        assert!(opened.loops.unknown().unwrap().any(|unknown| unknown == device));
        drop(held);
        assert!(is_freed(&file), "with its last user");
    }
}

#[test]
fn a_file_that_somebody_looks_into_keeps_its_one_device() {
    let root = tempfile::tempdir().unwrap();
    let Some(workspaces) = images(root.path()) else { return };
    workspaces.prepare("mine", LIMIT, None).unwrap();
    workspaces.release("mine").unwrap();
    let (file, elsewhere) = (image(root.path(), "mine"), root.path().join("elsewhere"));
    assert!(is_freed(&file), "or the device below would be a second one");
    let device = attach(&file);
    fs::create_dir(&elsewhere).unwrap();
    mount(loops::node(&device), &elsewhere, "ext4", MountFlags::empty(), None).unwrap();
    let note = elsewhere.join("note");
    fs::write(&note, "from elsewhere").unwrap();
    let workspace = workspaces.prepare("mine", LIMIT, None).unwrap();
    let seen = fs::read_to_string(workspace.path().unwrap().join("note"));
    let devices = with_file(&file);
    fs::write(workspace.path().unwrap().join("answer"), "from here").unwrap();
    let answer = fs::read_to_string(elsewhere.join("answer"));
    unmount(&elsewhere, UnmountFlags::NOFOLLOW).unwrap();
    Programs::of_the_system().run("losetup", &["--detach", &loops::node(&device)]).unwrap();
    assert_eq!((seen.unwrap().as_str(), answer.unwrap().as_str()), ("from elsewhere", "from here"));
    assert_eq!(devices, [device]);
    drop((workspace, workspaces));
    assert!(is_freed(&file));
}

#[test]
fn a_device_that_was_attached_and_not_mounted_is_freed_by_the_next_server() {
    let root = tempfile::tempdir().unwrap();
    let Some(workspaces) = images(root.path()) else { return };
    workspaces.prepare("mine", LIMIT, None).unwrap();
    drop(workspaces);
    let file = image(root.path(), "mine");
    attach(&file);
    assert_eq!(with_file(&file).len(), 1);
    let workspaces = images(root.path()).unwrap();
    assert!(is_freed(&file));
    workspaces.prepare("mine", LIMIT, None).unwrap();
}

#[test]
fn a_first_workspace_that_never_counted_leaves_nothing_and_is_made_anew() {
    let root = tempfile::tempdir().unwrap();
    let Some(workspaces) = images(root.path()) else { return };
    // In the way of the word that would make it count.
    let obstacle = root.path().join(".quota/homes/mine.tmp");
    fs::create_dir(&obstacle).unwrap();
    assert_eq!(workspaces.prepare("mine", LIMIT, None).unwrap_err().code, Code::WORKSPACE_UNAVAILABLE);
    assert_eq!(mounted_below(root.path()), 0);
    assert!(is_freed(&image(root.path(), "mine")));
    fs::remove_dir(obstacle).unwrap();
    let workspace = workspaces.prepare("mine", LIMIT, None).unwrap();
    assert_eq!(fs::read_dir(workspace.path().unwrap()).unwrap().count(), 0);
    assert_eq!(mounted_below(root.path()), 1);
}

#[test]
fn workspaces_of_one_size_are_copies_of_one_image_and_share_nothing() {
    let root = tempfile::tempdir().unwrap();
    let Some(workspaces) = images(root.path()) else { return };
    let blanks = || {
        let directory = root.path().join(".quota/images");
        let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".blank")).count()
    };
    let names = ["one", "two", "three"];
    let mounted = names.map(|name| workspaces.prepare(name, LIMIT, None).unwrap());
    assert_eq!(blanks(), 1, "all are of one size");
    for (workspace, name) in mounted.iter().zip(names) {
        fs::write(workspace.path().unwrap().join("whose"), name).unwrap();
    }
    let larger = workspaces.prepare("four", 2 * LIMIT, None).unwrap();
    assert_eq!(
        (blanks(), fs::read_dir(larger.path().unwrap()).unwrap().count()),
        (2, 0),
        "a copy has nothing of others"
    );
    drop((mounted, larger, workspaces));
    // What an earlier server has made is not copied by this one, and no workspace stands on it.
    let workspaces = images(root.path()).unwrap();
    assert_eq!(blanks(), 0);
    for name in names {
        let workspace = workspaces.prepare(name, LIMIT, None).unwrap();
        assert_eq!(fs::read_to_string(workspace.path().unwrap().join("whose")).unwrap(), name);
    }
    assert_eq!(blanks(), 0, "nothing new was needed");
}
