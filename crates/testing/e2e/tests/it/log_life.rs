//! The audit log over days and keys, with the real programs: their clock is moved, nothing else about them is.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use agentos_api::body::PruneAudit;
use agentos_kit::{TestOs, program, python};
use agentos_scratch::{Backend, Scratch};
use agentos_types::Code;
use serde_json::{Value, json};
use tempfile::TempDir;

/// 2026-11-23, noon.
const NOON_S: i64 = 1_795_435_200;
/// Adds a number of seconds to the wall clock of a program.
const SHIFT: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *at) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  const char *shift = getenv("CLOCK_SHIFT_S");
  int outcome = real(id, at);
  if (outcome == 0 && id == CLOCK_REALTIME && shift) at->tv_sec += atoll(shift);
  return outcome;
}
"#;

/// An installation whose programs live on other days.
struct Days {
    os: TestOs,
    /// Seconds to the noon of day 0.
    shift_s: i64,
    _library: TempDir,
    _scratch: Scratch,
}

impl Days {
    /// Initialised at the noon of day 0.
    async fn start(backend: Backend) -> Self {
        let (library, scratch) = (tempfile::tempdir().unwrap(), backend.blank());
        let (source, object) = (library.path().join("shift.c"), library.path().join("shift.so"));
        fs::write(&source, SHIFT).unwrap();
        let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&object).arg(&source).arg("-ldl").status();
        assert!(made.unwrap().success(), "the C compiler that the build needs makes the library");
        let mut os = TestOs::bare(&[
            ("LD_PRELOAD", object.to_str().unwrap()),
            ("AUDIT_LOG_RETENTION_DAYS", "2"),
            ("AUDIT_LOG_PRUNE", "by-hand"),
        ]);
        if let Some((url, admin)) = scratch.urls() {
            os.set_env("DATABASE_URL", url);
            os.set_env("DATABASE_ADMIN_URL", admin);
        }
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
        let mut days = Self { os, shift_s: NOON_S - now, _library: library, _scratch: scratch };
        days.to(0);
        days.os.cli_ok(&["init"]).await;
        days
    }

    /// Programs that are started from now on live on this day.
    fn to(&mut self, day: i64) {
        self.os.unset_env("CLOCK_SHIFT_S");
        self.os.set_env("CLOCK_SHIFT_S", &(self.shift_s + day * 86_400).to_string());
    }

    /// One server a day, which leaves some records.
    async fn live_through(&mut self, days: std::ops::Range<i64>) {
        for day in days {
            self.to(day);
            self.os.up().await;
            self.os.cli_ok(&["token", "create", "daily", "--role", "viewer"]).await;
            assert_eq!(self.os.down().await, 0);
        }
    }

    fn key(&self, name: &str) -> PathBuf {
        self.os.home().join("keys").join(name)
    }

    async fn assert_valid(&self) {
        let found = self.os.cli_json(&["audit", "verify"]).await;
        assert_eq!(found["valid"], true, "{found}");
    }
}

/// Exit code of the small program, and its words.
fn judge(source: &str, file: &Path, key: &Path) -> (Option<i32>, String) {
    let output = Command::new(program("agent-os-verify")).arg(source).arg(file).arg("--key").arg(key).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Keys that lie in the directory and can sign.
fn private_keys(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("audit.key"))
        .collect();
    names.sort();
    names
}

async fn days_are_held_archived_and_pruned(backend: Backend) -> Days {
    let mut days = Days::start(backend).await;
    days.live_through(0..4).await;
    days.to(4);
    days.os.up().await;
    let dry = days.os.cli_json(&["audit", "prune", "--dry-run"]).await;
    assert_eq!((&dry["days"], &dry["held"]), (&json!(2), &json!([])), "days 0 and 1 are older than two days: {dry}");
    days.os.cli_ok(&["audit", "hold", "add", "case-7", "--reason", "letter", "--from", "2026-11-24T00:00:00Z"]).await;
    let held = days.os.cli_json(&["audit", "prune", "--dry-run"]).await;
    assert_eq!((&held["days"], &held["held"]), (&json!(1), &json!(["case-7"])));
    // An auditor sees the holds, and can neither place nor lift one, nor prune.
    let made = days.os.cli_json(&["token", "create", "auditor", "--role", "auditor"]).await;
    let auditor = days.os.client_with(made["token"].as_str().map(str::to_owned));
    assert_eq!(auditor.list_audit_holds().await.unwrap().len(), 1);
    for refused in [
        auditor.release_audit_hold("case-7").await.unwrap_err(),
        auditor.prune_audit(&PruneAudit::default()).await.unwrap_err(),
        auditor.rotate_audit_key().await.unwrap_err(),
    ] {
        assert_eq!(refused.code, Code::FORBIDDEN);
    }
    days.os.cli_ok(&["audit", "hold", "release", "case-7"]).await;

    let archive = days.os.home().join("archive");
    let pruned = days.os.cli_json(&["audit", "prune", "--archive", archive.to_str().unwrap()]).await;
    assert_eq!((&pruned["days"], &pruned["records"]), (&json!(2), &dry["records"]), "{pruned}");
    days.assert_valid().await;
    let file = fs::read_dir(&archive).unwrap().next().unwrap().unwrap().path();
    let (code, said) = judge("--segment", &file, &days.key("audit.vkey"));
    assert!(code == Some(0) && said.contains("(from 0 up to"), "{said}");
    let oldest = days.os.cli(&["-o", "jsonl", "audit", "query", "--ascending", "--limit", "1"]).await.stdout;
    let oldest: Value = serde_json::from_str(oldest.lines().next().unwrap()).unwrap();
    assert_eq!(oldest["seq"], pruned["first_kept"]);
    days
}

#[tokio::test]
async fn days_are_pruned_held_and_proven_by_the_real_programs() {
    let mut days = days_are_held_archived_and_pruned(Backend::Sqlite).await;
    let database = days.os.home().join("agent-os.db");
    let (code, said) = judge("--db", &database, &days.key("audit.vkey"));
    assert!(code == Some(0) && said.contains("are not here"), "{said}");
    assert_eq!(days.os.down().await, 0);
    // More is taken away, with everything that the database itself would ask for.
    let forge = "import sqlite3,sys; db=sqlite3.connect(sys.argv[1]); \
        db.execute('DROP TRIGGER audit_record_is_append_only_delete'); \
        number,first=db.execute('SELECT number, first_seq FROM audit_day ORDER BY number DESC LIMIT 1').fetchone(); \
        db.execute('INSERT INTO audit_prune SELECT log, ?, ?, 0 FROM audit_frontier', (first, number)); \
        db.execute('DELETE FROM audit_record WHERE seq < ?', (first,)); db.commit()";
    assert!(Command::new(python()).args(["-c", forge]).arg(&database).status().unwrap().success());
    let (code, said) = judge("--db", &database, &days.key("audit.vkey"));
    assert_eq!(code, Some(30), "{said}");
    let found = days.os.cli(&["audit", "verify"]).await;
    assert!(found.code == 5 && found.stderr.contains("prune-unsigned"), "{}", found.stderr);
}

#[tokio::test]
async fn days_are_pruned_held_and_proven_on_postgres() {
    let mut days = days_are_held_archived_and_pruned(Backend::Postgres).await;
    // Without the owner's rights the same command says what is missing, and changes nothing.
    assert_eq!(days.os.down().await, 0);
    days.os.unset_env("DATABASE_ADMIN_URL");
    days.to(6);
    days.os.up().await;
    let refused = days.os.cli(&["audit", "prune"]).await;
    assert!(refused.stderr.contains("AOS-1108") && refused.stderr.contains("DATABASE_ADMIN_URL"), "{}", refused.stderr);
    assert_eq!(days.os.cli_json(&["audit", "prune", "--dry-run"]).await["days"], 2);
    days.os.cli_ok(&["audit", "rotate-key"]).await;
    days.assert_valid().await;
    let segment = days.os.home().join("segment.jsonl");
    let first = days.os.cli_json(&["audit", "prune", "--dry-run"]).await["first_kept_before"].to_string();
    days.os.cli_ok(&["audit", "export", "--from-seq", &first, "--out", segment.to_str().unwrap()]).await;
    let (code, said) = judge("--segment", &segment, &days.key("audit.vkey"));
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test]
async fn a_prune_that_is_killed_verifies_and_goes_on() {
    let mut days = Days::start(Backend::Sqlite).await;
    days.live_through(0..3).await;
    for round in 0..4 {
        days.to(3 + round);
        days.os.up().await;
        let client = days.os.client();
        let order = PruneAudit::default();
        let prune = tokio::spawn(async move { client.prune_audit(&order).await });
        // Each round gives the server a little more of the way.
        for _ in 0..round * 40 {
            tokio::task::yield_now().await;
        }
        days.os.kill().await;
        let _ = prune.await.unwrap();
        days.assert_valid().await;
        days.os.up().await;
        days.assert_valid().await;
        assert_eq!(days.os.down().await, 0);
    }
    days.to(7);
    days.os.up().await;
    days.os.cli_ok(&["audit", "prune"]).await;
    days.assert_valid().await;
    let left = days.os.cli_json(&["audit", "prune", "--dry-run"]).await;
    assert_eq!(left["days"], 0, "{left}");
}

#[tokio::test]
async fn a_change_of_the_key_finds_its_way_from_every_half() {
    let mut os = TestOs::start().await;
    let keys = os.home().join("keys");
    let (current, next) = (keys.join("audit.key"), keys.join("audit.key.next"));
    let old = fs::read(&current).unwrap();
    let rotated = os.cli_json(&["audit", "rotate-key"]).await;
    assert_eq!(private_keys(&keys), ["audit.key"]);
    let new = fs::read(&current).unwrap();
    assert_ne!(old, new);
    let id = rotated["new_key"].as_str().unwrap().split('+').nth(1).unwrap();
    let (first_public, new_public) = (keys.join("audit.vkey"), keys.join(format!("audit-{id}.vkey")));
    assert_eq!(fs::read_to_string(&new_public).unwrap().trim(), rotated["new_key"]);

    let put = |path: &Path, bytes: &[u8]| {
        let _ = fs::remove_file(path);
        fs::write(path, bytes).unwrap();
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    };
    let zeros = vec![b'0'; old.len()];
    // What lies in the two places when the server is killed, and starts again.
    for (step, in_place, ready) in [
        ("the next key was made", Some(&new), Some(&old)),
        ("the change is recorded", Some(&old), Some(&new)),
        ("the old key is overwritten", Some(&zeros), Some(&new)),
        ("the old key is gone", None, Some(&new)),
        ("all is done", Some(&new), None),
    ] {
        os.kill().await;
        for (path, bytes) in [(&current, in_place), (&next, ready)] {
            match bytes {
                Some(bytes) => put(path, bytes),
                None => drop(fs::remove_file(path)),
            }
        }
        os.up().await;
        assert_eq!(
            (private_keys(&keys), fs::read(&current).unwrap()),
            (vec!["audit.key".to_owned()], new.clone()),
            "{step}"
        );
        assert_eq!(os.cli_json(&["audit", "verify"]).await["valid"], true, "{step}");
    }
    assert_eq!(os.down().await, 0);
    put(&current, &old);
    let refused = os.cli(&["up", "--port", "0"]).await;
    assert!(refused.stderr.contains("AOS-1903"), "the old key alone: {}", refused.stderr);
    put(&current, &new);

    let database = os.home().join("agent-os.db");
    let (code, said) = judge("--db", &database, &first_public);
    assert!(code == Some(0) && !said.contains("NOT CHECKED"), "{said}");
    let (code, said) = judge("--db", &database, &new_public);
    assert!(code == Some(0) && said.contains("NOT CHECKED"), "{said}");
    let shown = os.cli(&["audit", "verify", "--key", new_public.to_str().unwrap()]).await;
    assert!(shown.code == 0 && shown.stderr.contains("not checked: the keys"), "{}", shown.stderr);
}

#[tokio::test]
async fn a_change_of_the_key_that_is_killed_leaves_a_log_that_goes_on() {
    let mut os = TestOs::start().await;
    for round in 0..5 {
        let client = os.client();
        let change = tokio::spawn(async move { client.rotate_audit_key().await });
        for _ in 0..round * 40 {
            tokio::task::yield_now().await;
        }
        os.kill().await;
        let _ = change.await.unwrap();
        os.up().await;
        assert_eq!(private_keys(&os.home().join("keys")), ["audit.key"], "round {round}");
        assert_eq!(os.cli_json(&["audit", "verify"]).await["valid"], true, "round {round}");
    }
    os.cli_ok(&["audit", "rotate-key"]).await;
    let (code, said) = judge("--db", &os.home().join("agent-os.db"), &os.home().join("keys/audit.vkey"));
    assert_eq!(code, Some(0), "{said}");
}
