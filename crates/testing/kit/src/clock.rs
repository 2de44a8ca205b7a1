//! A server whose wall clock the test owns: weeks of days pass in a minute, and the product has no lever for it.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicI64, Ordering},
};

use tempfile::TempDir;

/// A wall clock that stands apart from the machine's.
#[derive(Debug)]
pub struct ShiftedClock {
    directory: TempDir,
    file: fs::File,
    shift_s: AtomicI64,
}

impl ShiftedClock {
    /// Right at first.
    #[expect(clippy::new_without_default, reason = "it builds a library on the disk")]
    pub fn new() -> Self {
        let directory = TempDir::with_prefix("agentos-clock-").expect("scratch is writable");
        let source = directory.path().join("clock.c");
        fs::write(&source, include_str!("clock.c")).expect("scratch is writable");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(directory.path().join("clock.so"))
            .arg(&source)
            .output()
            .expect("a C compiler, which the build needs as well");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let shift = directory.path().join("shift");
        let file = fs::OpenOptions::new().write(true).create_new(true).open(shift).expect("scratch is writable");
        let clock = Self { directory, file, shift_s: AtomicI64::new(0) };
        clock.set_s(0);
        clock
    }

    /// For every program of the installation.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let path = |name: &str| -> PathBuf { self.directory.path().join(name) };
        vec![
            ("LD_PRELOAD", path("clock.so").display().to_string()),
            ("SHIFTED_CLOCK", path("shift").display().to_string()),
        ]
    }

    /// Ahead of where it stands, or back by a negative number.
    pub fn advance_s(&self, seconds: i64) {
        self.set_s(self.shift_s.load(Ordering::SeqCst) + seconds);
    }

    /// Seconds ahead of the machine's clock.
    pub fn set_s(&self, shift_s: i64) {
        self.shift_s.store(shift_s, Ordering::SeqCst);
        self.file.write_all_at(&shift_s.to_ne_bytes(), 0).expect("scratch is writable");
    }
}
