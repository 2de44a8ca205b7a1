//! A server whose wall clock the test owns: weeks of days pass in a minute, and the product has no lever for it.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicI64, Ordering},
};

use tempfile::TempDir;

pub struct ShiftedClock {
    directory: TempDir,
    file: fs::File,
    shift_s: AtomicI64,
}

impl ShiftedClock {
    pub fn new() -> Self {
        let directory = TempDir::with_prefix("agentos-clock-").unwrap();
        let source = directory.path().join("clock.c");
        fs::write(&source, include_str!("clock.c")).unwrap();
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(directory.path().join("clock.so"))
            .arg(&source)
            .output()
            .expect("a C compiler, which the build needs as well");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let file = fs::OpenOptions::new().write(true).create_new(true).open(directory.path().join("shift")).unwrap();
        file.write_all_at(&0_i64.to_ne_bytes(), 0).unwrap();
        Self { directory, file, shift_s: AtomicI64::new(0) }
    }

    /// For every program of the installation.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let path = |name: &str| -> PathBuf { self.directory.path().join(name) };
        vec![
            ("LD_PRELOAD", path("clock.so").display().to_string()),
            ("SHIFTED_CLOCK", path("shift").display().to_string()),
        ]
    }

    pub fn advance_s(&self, seconds: i64) {
        let shift = self.shift_s.fetch_add(seconds, Ordering::SeqCst) + seconds;
        self.file.write_all_at(&shift.to_ne_bytes(), 0).unwrap();
    }
}
