//! What a workspace holds without a name: files that were deleted and are still open somewhere, or never had a name.
//!
//! Found through the descriptors of processes. Not seen is what is only mapped into memory or waits in a socket's queue; that
//! takes descriptors out of sight one by one, while the kernel bounds each file by `limits.file_bytes`.

use std::{collections::HashSet, fs, os::unix::fs::MetadataExt};

use agentos_types::Result;

use super::walk::{Measured, SECTOR_BYTES, unmeasured};

/// Of all processes of one agent. `limits.open_files` times `limits.processes` is far below it in practice.
const DESCRIPTORS_MAX: usize = 100_000;

/// Files without a name on this device that the processes have open. What ends meanwhile holds nothing.
pub(crate) fn measure(device: u64, processes: &[u32]) -> Result<Measured> {
    let (mut found, mut seen, mut left) = (Measured::default(), HashSet::new(), DESCRIPTORS_MAX);
    for process in processes {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{process}/fd")) else { continue };
        for descriptor in descriptors.flatten() {
            left = left.checked_sub(1).ok_or_else(|| unmeasured("its processes have more open than may be"))?;
            // The file itself, not a name: this follows the link as the kernel means it.
            let Ok(file) = fs::metadata(descriptor.path()) else { continue };
            if file.is_file() && file.nlink() == 0 && file.dev() == device && seen.insert(file.ino()) {
                found.bytes += file.blocks().saturating_mul(SECTOR_BYTES);
                found.files += 1;
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write, path::Path};

    use super::*;

    fn nameless(directory: &Path, bytes: usize) -> File {
        let path = directory.join("short-lived");
        let mut file = File::create(&path).unwrap();
        file.write_all(&vec![7; bytes]).unwrap();
        file.sync_all().unwrap();
        fs::remove_file(path).unwrap();
        file
    }

    #[test]
    fn a_file_without_a_name_counts_once_while_it_is_open() {
        let directory = tempfile::tempdir().unwrap();
        let device = fs::metadata(directory.path()).unwrap().dev();
        let own = [std::process::id(), std::process::id(), u32::MAX];
        let before = measure(device, &own).unwrap();
        let file = nameless(directory.path(), 1 << 20);
        let second = file.try_clone().unwrap();
        let _named = File::create(directory.path().join("named")).unwrap();
        let held = measure(device, &own).unwrap();
        assert_eq!((held.bytes - before.bytes, held.files - before.files), (1 << 20, 1));
        assert_eq!(measure(device + 1, &own).unwrap(), Measured::default(), "another disk is not ours to count");
        drop((file, second));
        assert_eq!(measure(device, &own).unwrap(), before);
    }
}
