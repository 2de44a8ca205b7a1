//! Which disk holds a directory, as the speed limits name it.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use rustix::fs::{major, minor};

/// `MAJOR:MINOR` of the whole disk, because limits of a partition do not exist. The error says why there is none.
pub(super) fn of(directory: &Path) -> Result<String, String> {
    let device = fs::metadata(directory).map_err(|source| format!("{}: {source}", directory.display()))?.dev();
    let (major, minor) = (major(device), minor(device));
    if major == 0 {
        return Err(format!(
            "the file system of {} has no disk of its own (memory, network, overlay or btrfs); put it on ext4 or xfs",
            directory.display()
        ));
    }
    whole(Path::new("/sys/dev/block"), &format!("{major}:{minor}"))
        .ok_or_else(|| format!("/sys does not know the disk {major}:{minor} of {}", directory.display()))
}

fn whole(devices: &Path, number: &str) -> Option<String> {
    let device = fs::canonicalize(devices.join(number)).ok()?;
    if !device.join("partition").exists() {
        return Some(number.to_owned());
    }
    Some(fs::read_to_string(device.parent()?.join("dev")).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_stands_for_its_disk() {
        let sys = tempfile::tempdir().unwrap();
        let disk = sys.path().join("devices/vda");
        fs::create_dir_all(disk.join("vda1")).unwrap();
        fs::write(disk.join("dev"), "254:0\n").unwrap();
        fs::write(disk.join("vda1/partition"), "1\n").unwrap();
        let numbers = sys.path().join("block");
        fs::create_dir(&numbers).unwrap();
        std::os::unix::fs::symlink(&disk, numbers.join("254:0")).unwrap();
        std::os::unix::fs::symlink(disk.join("vda1"), numbers.join("254:1")).unwrap();
        assert_eq!(whole(&numbers, "254:0").as_deref(), Some("254:0"));
        assert_eq!(whole(&numbers, "254:1").as_deref(), Some("254:0"));
        assert_eq!(whole(&numbers, "9:9"), None);
    }

    #[test]
    fn memory_is_no_disk() {
        let why = of(Path::new("/proc")).unwrap_err();
        assert!(why.contains("no disk of its own"), "{why}");
    }
}
