//! `file.read` and `file.list` beneath granted roots.
//!
//! The kernel walks the path, not we: `openat2` with RESOLVE_BENEATH, NO_SYMLINKS, NO_MAGICLINKS and NO_XDEV refuses
//! every way out of the root in one step, so there is no moment between a check and a use. The root itself is the
//! operator's word and may be reached through links.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    os::fd::OwnedFd,
};

use agentos_authority::{Authorized, Demand};
use agentos_failpoint::{Point, hit};
use agentos_monitor::Call;
use agentos_protocol::syscall::{FileEntry, FileList, FileListResult, FileRead, FileReadResult};
use agentos_types::{Action, Category, Code, Fault, Result, Timestamp};
use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2, statat},
    io::Errno,
};

use crate::content;

const READ_BYTES_DEFAULT: u64 = 1024 * 1024;
/// Half a frame: base64 and JSON around it must fit.
const READ_BYTES_MAX: u64 = 2 * 1024 * 1024;
const ENTRIES_MAX: usize = 10_000;
/// Names in one listing, escaped as JSON: with the other fields of so many entries they must fit into a frame.
const NAME_BYTES_MAX: usize = 2 * 1024 * 1024;

pub(crate) async fn read(call: &Authorized<Call>, args: FileRead) -> Result<FileReadResult> {
    let root = granted_root(call, "read", &args.path)?;
    let result = blocking(move || read_beneath(&root, &args)).await;
    hit(Point::ToolsFileRead);
    result
}

pub(crate) async fn list(call: &Authorized<Call>, args: FileList) -> Result<FileListResult> {
    let root = granted_root(call, "list", &args.path)?;
    blocking(move || list_beneath(&root, &args.path)).await
}

fn granted_root(call: &Authorized<Call>, verb: &str, path: &str) -> Result<String> {
    let action = Action::of(Category::File, verb).ok_or_else(|| Fault::internal("no such file action"))?;
    let demand = Demand { action, resource: path.to_owned() };
    let root = call.caller().grants.root_over(&demand).map(str::to_owned);
    root.ok_or_else(|| Fault::internal("an authorized path has no root"))
}

fn read_beneath(root: &str, args: &FileRead) -> Result<FileReadResult> {
    let limit = args.max_bytes.unwrap_or(READ_BYTES_DEFAULT);
    if limit > READ_BYTES_MAX {
        return Err(Fault::new(Code::SYSCALL_INVALID, format!("max_bytes is {limit}, more than {READ_BYTES_MAX}"))
            .hint("read the file in pieces with offset"));
    }
    // NONBLOCK: opening a FIFO that somebody planted must not hang.
    let descriptor = open_beneath(root, &args.path, OFlags::RDONLY | OFlags::NONBLOCK)?;
    let stat = fstat(&descriptor).map_err(|errno| refused(&args.path, errno))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Fault::new(Code::FILE_UNAVAILABLE, format!("{} is not a regular file", args.path)));
    }
    let mut file = File::from(descriptor);
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(args.offset))
        .and_then(|_| file.take(limit).read_to_end(&mut bytes))
        .map_err(|source| Fault::new(Code::FILE_UNAVAILABLE, format!("{}: {source}", args.path)))?;
    let count = bytes.len() as u64;
    let (content, encoding) = content::encode(bytes);
    Ok(FileReadResult { content, encoding, bytes: count, size: size(&stat), modified_at: modified_at(&stat) })
}

fn list_beneath(root: &str, path: &str) -> Result<FileListResult> {
    let descriptor = open_beneath(root, path, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut entries = Vec::new();
    let mut name_bytes = 0;
    for entry in Dir::read_from(&descriptor).map_err(|errno| refused(path, errno))? {
        let entry = entry.map_err(|errno| refused(path, errno))?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let shown = name.to_string_lossy().into_owned();
        name_bytes += content::escaped_bytes(&shown);
        if entries.len() == ENTRIES_MAX || name_bytes > NAME_BYTES_MAX {
            entries.sort_by(|a: &FileEntry, b| a.name.cmp(&b.name));
            return Ok(FileListResult { entries, truncated: true });
        }
        // An entry that vanished between listing and stat is not there.
        let Ok(stat) = statat(&descriptor, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        entries.push(FileEntry {
            name: shown,
            kind: kind(&stat).to_owned(),
            size: size(&stat),
            modified_at: modified_at(&stat),
        });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(FileListResult { entries, truncated: false })
}

fn open_beneath(root: &str, path: &str, flags: OFlags) -> Result<OwnedFd> {
    let strict =
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let flags = flags | OFlags::CLOEXEC;
    let rest = path.strip_prefix(root).unwrap_or_default().trim_start_matches('/');
    if rest.is_empty() {
        // The root itself, a directory or a single file, exactly as the operator named it.
        return openat2(CWD, root, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)
            .map_err(|errno| refused(path, errno));
    }
    let start = openat2(
        CWD,
        root,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::NO_MAGICLINKS,
    )
    .map_err(|errno| refused(root, errno))?;
    openat2(&start, rest, flags, Mode::empty(), strict).map_err(|errno| refused(path, errno))
}

fn refused(path: &str, errno: Errno) -> Fault {
    match errno {
        Errno::LOOP | Errno::XDEV => Fault::new(Code::FILE_DENIED, format!("{path} leaves its granted root"))
            .hint("links and other file systems are not followed; grant the real directory"),
        _ => Fault::new(Code::FILE_UNAVAILABLE, format!("{path}: {errno}")),
    }
}

fn kind(stat: &Stat) -> &'static str {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => "file",
        FileType::Directory => "directory",
        FileType::Symlink => "symlink",
        _ => "other",
    }
}

fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

fn modified_at(stat: &Stat) -> Timestamp {
    let micros = i64::try_from(stat.st_mtime_nsec).unwrap_or(0) / 1_000;
    Timestamp(stat.st_mtime.saturating_mul(1_000_000).saturating_add(micros))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(Fault::internal)?
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::Path};

    use super::*;

    /// A granted root with a file, and a secret beside it that nothing may reach.
    fn stage() -> (tempfile::TempDir, String) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::write(root.join("a.txt"), "inside").unwrap();
        fs::write(directory.path().join("secret"), "outside").unwrap();
        (directory, root.to_str().unwrap().to_owned())
    }

    fn read(root: &str, name: &str) -> Result<FileReadResult> {
        let path = format!("{root}/{name}");
        read_beneath(root, &FileRead { path, offset: 0, max_bytes: None })
    }

    #[test]
    fn reads_lists_and_windows() {
        let (_directory, root) = stage();
        let whole = read(&root, "a.txt").unwrap();
        assert_eq!((whole.content.as_str(), whole.size), ("inside", 6));
        let args = FileRead { path: format!("{root}/a.txt"), offset: 2, max_bytes: Some(3) };
        assert_eq!(read_beneath(&root, &args).unwrap().content, "sid");
        let listed = list_beneath(&root, &root).unwrap();
        let names: Vec<_> = listed.entries.iter().map(|e| (e.name.as_str(), e.kind.as_str())).collect();
        assert_eq!(names, [("a.txt", "file"), ("sub", "directory")]);
        let single = format!("{root}/a.txt");
        let args = FileRead { path: single.clone(), offset: 0, max_bytes: None };
        assert_eq!(read_beneath(&single, &args).unwrap().content, "inside", "a grant may name one file");
    }

    #[test]
    fn every_way_out_of_the_root_is_closed() {
        let (directory, root) = stage();
        let at = |name: &str| Path::new(&root).join(name);
        symlink("../secret", at("relative")).unwrap();
        symlink(directory.path().join("secret"), at("absolute")).unwrap();
        symlink("..", at("up")).unwrap();
        symlink("/", at("slash")).unwrap();
        symlink("a.txt", at("inner")).unwrap();
        for name in ["relative", "absolute", "up/secret", "slash/etc/passwd", "inner", "sub/../../secret"] {
            assert_eq!(read(&root, name).unwrap_err().code, Code::FILE_DENIED, "{name}");
        }
        assert_eq!(list_beneath(&root, &format!("{root}/up")).unwrap_err().code, Code::FILE_DENIED);
        assert_eq!(
            read("/", "proc/self/root/etc/passwd").unwrap_err().code,
            Code::FILE_DENIED,
            "magic links and other mounts"
        );
    }

    #[test]
    fn what_is_not_a_plain_file_is_refused_at_once() {
        let (_directory, root) = stage();
        rustix::fs::mkfifoat(CWD, format!("{root}/fifo"), Mode::RUSR).unwrap();
        for name in ["fifo", "sub", "missing"] {
            assert_eq!(read(&root, name).unwrap_err().code, Code::FILE_UNAVAILABLE, "{name}");
        }
        let args = FileRead { path: format!("{root}/a.txt"), offset: 0, max_bytes: Some(READ_BYTES_MAX + 1) };
        assert_eq!(read_beneath(&root, &args).unwrap_err().code, Code::SYSCALL_INVALID);
    }

    #[test]
    fn a_listing_of_the_longest_names_fits_into_a_frame() {
        let (_directory, root) = stage();
        // Control characters take six bytes in JSON: 3,000 such names alone would be 4.3 MiB.
        for index in 0..3_000 {
            fs::write(format!("{root}/{index:04}{}", "\u{1}".repeat(240)), "").unwrap();
        }
        let listed = list_beneath(&root, &root).unwrap();
        assert!(listed.truncated && listed.entries.len() > 1_000);
        assert!(serde_json::to_vec(&listed).unwrap().len() < agentos_types::limits::FRAME_BYTES_MAX);
    }

    #[test]
    fn a_link_swapped_in_during_reads_never_leads_out() {
        let (directory, root) = stage();
        let target = directory.path().join("secret");
        let (file, spare) = (format!("{root}/race"), format!("{root}/spare"));
        fs::write(&file, "inside").unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    symlink(&target, &spare).unwrap();
                    fs::rename(&spare, &file).unwrap();
                    fs::write(&spare, "inside").unwrap();
                    fs::rename(&spare, &file).unwrap();
                }
            });
            for _ in 0..2_000 {
                if let Ok(read) = read(&root, "race") {
                    assert_ne!(read.content, "outside");
                }
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }
}
