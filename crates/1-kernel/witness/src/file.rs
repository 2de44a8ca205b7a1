//! The witness file: signed notes, one after the other, only ever appended and on the disk before anybody is told so.
//!
//! It is worth as much as its place: on another disk, another machine's share, or with the file system's append-only
//! attribute, whoever rewrites the database has to rewrite it as well. Rotation renames whole files and keeps nine.
//!
//! Beside it lies `FILE.keys`, the changes of the log's key: an older database that was put back knows only older keys, and
//! believes a note of a later one only by what its own key has signed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use agentos_proof::{
    held::{CUT_MARK, Held},
    note::NOTE_BYTES_MAX,
};
use agentos_types::{Code, Fault, Result};

/// Name among the targets.
pub(crate) const TARGET: &str = "file";
/// Older files. At one note a minute, nine of 16 MiB are about a year.
const KEPT: u32 = 9;
/// What is read from the end to find the newest note: the largest one, one that a crash has cut, and their neighbours.
const TAIL_BYTES: u64 = 4 * NOTE_BYTES_MAX as u64;

/// The most changes that a log may have, some 700 bytes each in JSON.
const KEYS_BYTES_MAX: u64 = 1024 * 1024;

#[derive(Clone, Debug)]
pub(crate) struct WitnessFile {
    path: PathBuf,
    bytes_max: u64,
}

impl WitnessFile {
    pub fn new(path: &Path, bytes_max: u64) -> Self {
        Self { path: path.to_owned(), bytes_max }
    }

    /// The newest whole note of the log; after a rotation it stands in the file before.
    pub fn newest(&self, origin: &str) -> Result<Option<String>> {
        for path in [self.path.clone(), self.older(1)] {
            let tail = match tail(&path) {
                Ok(tail) => tail,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(unusable(&path, &error)),
            };
            if let Some(note) = Held::newest(&tail, origin) {
                return Ok(Some(note));
            }
            // What stands there is not even the beginning of a note of this log: it is another file, or was damaged.
            if !tail.is_empty() && !tail.starts_with(origin) {
                let message = format!("{} ends without a checkpoint of {origin}", path.display());
                return Err(Fault::new(Code::WITNESS_FILE_UNUSABLE, message)
                    .hint("name another file, or move this one away and keep it"));
            }
        }
        Ok(None)
    }

    /// Appends one note and returns when it is on the disk.
    pub fn append(&self, note: &str) -> Result<()> {
        self.write(note).map_err(|error| unusable(&self.path, &error))
    }

    /// Keeps the changes of the key where they are more than what is kept.
    pub fn keep_rotations(&self, rotations: &[String]) -> Result<()> {
        let kept = self.rotations()?;
        if rotations.len() <= kept.len() || !rotations.starts_with(&kept) {
            return Ok(());
        }
        let text = serde_json::to_vec(rotations).map_err(Fault::internal)?;
        agentos_base::fs::replace(&self.keys(), &text, 0o644)
    }

    /// The changes of the key, oldest first. They prove themselves by their signatures; what is no list is taken for none.
    pub fn rotations(&self) -> Result<Vec<String>> {
        let path = self.keys();
        let read = |file: File| {
            let mut text = String::new();
            file.take(KEYS_BYTES_MAX).read_to_string(&mut text).map(|_| text)
        };
        match File::open(&path).and_then(read) {
            Ok(text) => Ok(serde_json::from_str(&text).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(unusable(&path, &error)),
        }
    }

    fn keys(&self) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".keys");
        name.into()
    }

    fn write(&self, note: &str) -> io::Result<()> {
        let size = fs::metadata(&self.path).map(|metadata| metadata.len()).unwrap_or(0);
        if size > 0 && size.saturating_add(note.len() as u64) > self.bytes_max {
            self.rotate()?;
        }
        let is_new = !self.path.exists();
        // Readable by others: it holds nothing that is not meant to be known.
        let mut file = OpenOptions::new().create(true).append(true).read(true).mode(0o644).open(&self.path)?;
        let text = if ends_within_line(&mut file)? { format!("{CUT_MARK}{note}") } else { note.to_owned() };
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        if is_new { self.sync_directory() } else { Ok(()) }
    }

    fn rotate(&self) -> io::Result<()> {
        for number in (1..KEPT).rev() {
            rename_if_there(&self.older(number), &self.older(number + 1))?;
        }
        rename_if_there(&self.path, &self.older(1))?;
        self.sync_directory()
    }

    fn older(&self, number: u32) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        name.into()
    }

    fn sync_directory(&self) -> io::Result<()> {
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    }
}

fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    // The cut may fall into a character; what it spoils is no whole note anyway.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether a crash has cut the last line.
fn ends_within_line(file: &mut File) -> io::Result<bool> {
    let size = file.metadata()?.len();
    if size == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::Start(size - 1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

fn unusable(path: &Path, error: &io::Error) -> Fault {
    Fault::new(Code::WITNESS_FILE_UNUSABLE, format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use agentos_proof::{SigningKey, checkpoint};

    use super::*;

    const LOG: &str = "agent-os/node-1";

    fn note(size: u64) -> String {
        checkpoint::sign(&SigningKey::from_bytes(&[7; 32]), LOG, size, &[5; 32])
    }

    #[test]
    fn notes_are_appended_rotated_and_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("witness.notes");
        let file = WitnessFile::new(&path, 3 * note(1).len() as u64);
        assert_eq!(file.newest(LOG), Ok(None));
        for size in 100..150 {
            file.append(&note(size)).unwrap();
            assert_eq!(file.newest(LOG), Ok(Some(note(size))));
        }
        let names = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(names, 1 + KEPT as usize, "older files than these are gone");
        let first = fs::read_to_string(path.with_extension("notes.9")).unwrap();
        assert!(first.starts_with(LOG), "{first}");
        // Just rotated, the newest note stands in the file before.
        fs::remove_file(&path).unwrap();
        assert!(file.newest(LOG).unwrap().is_some());
    }

    #[test]
    fn a_line_that_a_crash_has_cut_harms_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("witness.notes");
        let file = WitnessFile::new(&path, 1 << 20);
        file.append(&note(1)).unwrap();
        let cut = note(2);
        let mut handle = OpenOptions::new().append(true).open(&path).unwrap();
        handle.write_all(&cut.as_bytes()[..cut.len() - 9]).unwrap();
        assert_eq!(file.newest(LOG), Ok(Some(note(1))));
        file.append(&note(3)).unwrap();
        let held = Held::parse(&fs::read_to_string(&path).unwrap(), LOG);
        assert_eq!(held.notes, [note(1), note(3)]);
    }

    #[test]
    fn changes_of_the_key_are_added_and_never_taken_away() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("witness.notes");
        let file = WitnessFile::new(&path, 1 << 20);
        let all: Vec<String> = ["one", "two", "three"].map(str::to_owned).into();
        assert_eq!(file.rotations(), Ok(Vec::new()));
        for (given, kept) in [(0, 0), (1, 1), (3, 3), (2, 3), (0, 3)] {
            file.keep_rotations(&all[..given]).unwrap();
            assert_eq!(file.rotations().unwrap(), all[..kept]);
        }
        // Those of another history do not push them out, and what is no list is taken for none.
        file.keep_rotations(&["else".to_owned(), "b".to_owned(), "c".to_owned(), "d".to_owned()]).unwrap();
        assert_eq!(file.rotations().unwrap(), all);
        fs::write(directory.path().join("witness.notes.keys"), "[").unwrap();
        assert_eq!(file.rotations(), Ok(Vec::new()));
    }

    #[test]
    fn another_file_is_not_taken_for_an_empty_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notes");
        fs::write(&path, "something else\n").unwrap();
        let file = WitnessFile::new(&path, 1 << 20);
        assert_eq!(file.newest(LOG).unwrap_err().code, Code::WITNESS_FILE_UNUSABLE);
        let nowhere = WitnessFile::new(&directory.path().join("absent/notes"), 1 << 20);
        assert_eq!(nowhere.append(&note(1)).unwrap_err().code, Code::WITNESS_FILE_UNUSABLE);
    }
}
