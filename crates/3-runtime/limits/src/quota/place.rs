//! Where workspaces lie on the disk, and which of two places is the true one while data move between them.
//!
//! ```text
//! ROOT/NAME               the workspace: a directory, or where its image is mounted
//! ROOT/.quota/lock        held by the server that uses ROOT
//! ROOT/.quota/images/     NAME.ext4, and NAME.new while it is filled; BYTES.blank, which are copied for new ones
//! ROOT/.quota/homes/      NAME: `image` or `directory`, where the data of NAME are
//! ROOT/.quota/moved/      what was copied elsewhere, until it is removed
//! ROOT/.quota/staging/    mounts and directories that are being filled
//! ROOT/.quota/projects/   NAME: number of its project quota
//! ```
//!
//! A name has no dot, so that no agent is called `.quota`. The word in `homes` is replaced in one step, and what it does not
//! name is a leftover: a crash at any instant leaves exactly one true place.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use agentos_types::{Code, Fault, Result};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

const NAME_BYTES_MAX: usize = 64;
/// Lacks and failures of a machine that pass without a change of what was asked for.
const PASSING: [Errno; 10] = [
    Errno::AGAIN,
    Errno::INTR,
    Errno::NOMEM,
    Errno::NFILE,
    Errno::MFILE,
    Errno::NOSPC,
    Errno::DQUOT,
    Errno::IO,
    Errno::BUSY,
    Errno::TIMEDOUT,
];
/// Whoever tries again has a back-off of its own; this only says that it is worth it.
pub(crate) const RETRY: Duration = Duration::from_secs(1);

/// Where the data of one workspace are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    Directory,
    Image,
}

/// Paths under the root of all workspaces.
#[derive(Debug)]
pub(crate) struct Places {
    root: PathBuf,
}

impl Places {
    /// Makes what is missing of the frame. `root` becomes canonical, because sandboxes refuse paths with links.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let made = make_private(root).and_then(|()| root.canonicalize());
        let places = Self { root: made.map_err(|source| unavailable(root, &source))? };
        for part in ["", "images", "homes", "moved", "staging", "projects"] {
            let path = places.frame().join(part);
            make_private(&path).map_err(|source| unavailable(&path, &source))?;
        }
        Ok(places)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    fn frame(&self) -> PathBuf {
        self.root.join(".quota")
    }

    /// Taken for the life of the value; the kernel lets it go when this process ends, however it ends.
    pub(crate) fn lock(&self) -> Result<File> {
        let path = self.frame().join("lock");
        let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = open.map_err(|source| unavailable(&path, &source))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|source| {
            Fault::new(Code::WORKSPACE_UNAVAILABLE, "another process uses the workspaces of this directory")
                .hint("stop the other server, then start this one again")
                .detail(format!("{}: {source}", path.display()))
        })?;
        Ok(file)
    }

    pub(crate) fn workspace(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.frame().join("images")
    }

    pub(crate) fn image(&self, name: &str) -> PathBuf {
        self.images().join(format!("{name}.ext4"))
    }

    pub(crate) fn new_image(&self, name: &str) -> PathBuf {
        self.images().join(format!("{name}.new"))
    }

    pub(crate) fn blank(&self, bytes: u64) -> PathBuf {
        self.images().join(format!("{bytes}.blank"))
    }

    pub(crate) fn moved(&self, name: &str) -> PathBuf {
        self.frame().join("moved").join(name)
    }

    pub(crate) fn staging(&self, name: &str) -> PathBuf {
        self.frame().join("staging").join(name)
    }

    pub(crate) fn project(&self, name: &str) -> PathBuf {
        self.frame().join("projects").join(name)
    }

    /// What was never written is a directory, as workspaces were before there were others.
    pub(crate) fn home(&self, name: &str) -> Result<Home> {
        let path = self.frame().join("homes").join(name);
        match fs::read_to_string(&path) {
            Ok(word) if word == "image" => Ok(Home::Image),
            Ok(word) if word == "directory" => Ok(Home::Directory),
            Ok(_) => Err(unavailable(&path, &io::Error::other("it holds neither image nor directory"))),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(Home::Directory),
            Err(source) => Err(unavailable(&path, &source)),
        }
    }

    /// The instant at which the data have moved.
    pub(crate) fn set_home(&self, name: &str, home: Home) -> Result<()> {
        let word = match home {
            Home::Directory => "directory",
            Home::Image => "image",
        };
        replace(&self.frame().join("homes").join(name), word)
    }
}

/// Names are those of agents; anything else would be a path.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(plain) {
        return Err(Fault::new(Code::INVALID_ID, format!("'{name}' cannot be the name of a workspace")));
    }
    Ok(())
}

/// Why something failed, and whether it may succeed by itself later.
pub(crate) trait Cause: std::fmt::Display {
    fn errno(&self) -> Option<Errno>;
}

impl Cause for io::Error {
    fn errno(&self) -> Option<Errno> {
        Errno::from_io_error(self)
    }
}

impl Cause for Errno {
    fn errno(&self) -> Option<Errno> {
        Some(*self)
    }
}

/// What we refuse ourselves stays refused.
impl Cause for &str {
    fn errno(&self) -> Option<Errno> {
        None
    }
}

impl Cause for std::num::ParseIntError {
    fn errno(&self) -> Option<Errno> {
        None
    }
}

/// With a time after which it may be tried again, unless only a person can mend it.
pub(crate) fn unavailable(path: &Path, source: &dyn Cause) -> Fault {
    let fault = Fault::new(Code::WORKSPACE_UNAVAILABLE, "a workspace cannot be read or made")
        .detail(format!("{}: {source}", path.display()))
        .hint("the server's log names the path; the guide on disk quotas says what has to be there");
    maybe_later(fault, source)
}

pub(crate) fn maybe_later(fault: Fault, source: &dyn Cause) -> Fault {
    match source.errno().is_some_and(|errno| PASSING.contains(&errno)) {
        true => fault.retry_after(RETRY),
        false => fault,
    }
}

/// A directory for its owner alone, with its parents.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// By rename, and durable.
pub(crate) fn replace(path: &Path, word: &str) -> Result<()> {
    let temporary = path.with_extension("tmp");
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(word.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
    };
    write().map_err(|source| unavailable(path, &source))
}

/// Whether there is a directory with something in it.
pub(crate) fn holds_something(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some())
}

/// A file that this user made and that no other name leads to: then nobody but us has written it.
pub(crate) fn is_own_file(path: &Path) -> Result<u64> {
    let found = fs::symlink_metadata(path).map_err(|source| unavailable(path, &source))?;
    let own = found.file_type().is_file()
        && found.uid() == rustix::process::geteuid().as_raw()
        && found.nlink() == 1
        && found.mode() & 0o077 == 0;
    match own {
        true => Ok(found.len()),
        false => Err(unavailable(path, &"it is not a private file of this server, so it is not mounted")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_told_from_what_a_person_has_to_mend() {
        let later = |cause: &dyn Cause| unavailable(Path::new("/w"), cause).retry_after.is_some();
        for passing in PASSING {
            assert!(later(&passing) && later(&io::Error::from(passing)), "{passing}");
        }
        for lasting in [Errno::ACCESS, Errno::ROFS, Errno::EXIST, Errno::NOTDIR, Errno::LOOP] {
            assert!(!later(&lasting) && !later(&io::Error::from(lasting)), "{lasting}");
        }
        assert!(!later(&"not ours") && !later(&io::Error::other("no word")));
    }

    fn check_home(content: Option<&str>, expected: Option<Home>) {
        let root = tempfile::tempdir().unwrap();
        let places = Places::open(root.path()).unwrap();
        if let Some(content) = content {
            fs::write(root.path().join(".quota/homes/echo"), content).unwrap();
        }
        assert_eq!(places.home("echo").ok(), expected, "{content:?}");
    }

    #[test]
    fn a_home_is_one_of_two_words() {
        check_home(None, Some(Home::Directory));
        check_home(Some("image"), Some(Home::Image));
        check_home(Some("directory"), Some(Home::Directory));
        check_home(Some(""), None);
        check_home(Some("imag"), None);
    }

    #[test]
    fn a_home_is_remembered() {
        let root = tempfile::tempdir().unwrap();
        let places = Places::open(root.path()).unwrap();
        for home in [Home::Image, Home::Directory, Home::Image] {
            places.set_home("echo", home).unwrap();
            assert_eq!(places.home("echo").unwrap(), home);
        }
    }

    #[test]
    fn names_are_no_paths() {
        for name in ["", "..", ".quota", "a/b", "a.b", "A", "ä", &"a".repeat(65)] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert!(check_name("echo-2").is_ok());
    }

    #[test]
    fn a_second_server_is_kept_out_until_the_first_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let places = Places::open(root.path()).unwrap();
        let held = places.lock().unwrap();
        assert_eq!(places.lock().unwrap_err().code, Code::WORKSPACE_UNAVAILABLE);
        drop(held);
        places.lock().unwrap();
    }

    #[test]
    fn only_private_files_of_our_own_are_images() {
        let root = tempfile::tempdir().unwrap();
        let own = root.path().join("own");
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&own).unwrap();
        assert_eq!(is_own_file(&own).unwrap(), 0);
        std::os::unix::fs::symlink(&own, root.path().join("link")).unwrap();
        assert!(is_own_file(&root.path().join("link")).is_err(), "a link");
        fs::hard_link(&own, root.path().join("second")).unwrap();
        assert!(is_own_file(&own).is_err(), "a second name");
        fs::remove_file(root.path().join("second")).unwrap();
        fs::set_permissions(&own, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        assert!(is_own_file(&own).is_err(), "others may have written it");
    }
}
