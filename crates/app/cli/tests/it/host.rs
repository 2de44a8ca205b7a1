//! A program that records what it was asked to do, and the commands that go through it.

use std::{
    path::{Path, PathBuf},
    sync::Mutex,
};

use agentos_api::body::{Check, CheckOutcome};
use agentos_base::config::Source;
use agentos_cli::{
    DoctorReport, Exit, Host, InitReport, MadeFile, MigrateOrder, MigrateReport, MigrateStep, MigrateWay,
    MigrationLine, RunOrder, RunReport, UpOptions, UpReport,
};
use agentos_types::{
    Code, Fault, Result, Timestamp,
    agent::{Control, Enforcement},
    machine::{IsolationLevel, Machine, MachineRow, RowStanding},
};
use tokio::sync::oneshot;

use crate::world::World;

#[derive(Default)]
pub struct Program {
    pub outcome: Option<CheckOutcome>,
    pub started: Mutex<Vec<String>>,
    pub migrated: Mutex<Vec<String>>,
    pub sandboxed: Mutex<Vec<RunOrder>>,
    /// What `sandbox run` is to find; without one the sandbox cannot be made.
    pub run: Option<RunReport>,
}

#[async_trait::async_trait]
impl Host for Program {
    async fn init(&self, data_dir: &Path, _: Source) -> Result<InitReport> {
        Ok(InitReport {
            data_dir: data_dir.to_owned(),
            files: vec![MadeFile { path: PathBuf::from("keys/audit.vkey"), purpose: "verifies the audit log".into() }],
            publisher_key_id: "abcd".into(),
            audit_verifier_key: "agent-os/n+1+k".into(),
        })
    }

    async fn up(&self, options: UpOptions, ready: oneshot::Sender<UpReport>) -> Result<()> {
        let UpOptions { port, detach, source, .. } = options;
        self.started.lock().unwrap().push(format!("{port:?} {detach} {:?}", source.flags));
        if port == Some(1) {
            return Err(Fault::new(Code::ADDRESS_IN_USE, "port 1 is taken"));
        }
        let report = UpReport { url: "http://127.0.0.1:18800".into(), pid: 42, version: "0.1.0".into() };
        ready.send(report).unwrap();
        if !detach {
            tokio::task::yield_now().await;
            return Err(Fault::new(Code::STORE_UNAVAILABLE, "the disk is full"));
        }
        Ok(())
    }

    async fn migrate(&self, _: &Path, _: Source, order: MigrateOrder) -> Result<MigrateReport> {
        self.migrated.lock().unwrap().push(format!("{order:?}"));
        let line = |number, name: &str, state: &str, by: Option<&str>| MigrationLine {
            number,
            name: name.into(),
            state: state.into(),
            runs_from: 1,
            applied_at: by.map(|_| Timestamp::ZERO),
            applied_by: by.map(Into::into),
        };
        let (direction, loses) = match order {
            MigrateOrder::Plan(MigrateWay::Down(_)) => ("down", Some("notes".to_owned())),
            _ => ("up", None),
        };
        let step = MigrateStep { number: 2, name: "second".into(), direction: direction.into(), loses };
        Ok(MigrateReport {
            database: "SQLite".into(),
            schema: 1,
            known: 2,
            migrations: vec![line(1, "first_light", "applied", Some("0.1.0")), line(2, "second", "pending", None)],
            steps: if order == MigrateOrder::Status { vec![] } else { vec![step] },
            changed: matches!(order, MigrateOrder::Change { trial: false, .. }),
            backup: None,
        })
    }

    async fn sandbox_run(&self, order: RunOrder) -> Result<RunReport> {
        self.sandboxed.lock().unwrap().push(order);
        self.run.clone().ok_or_else(|| Fault::new(Code::LAUNCH_FAILED, "mounts: no room").hint("make some"))
    }

    async fn doctor(&self, _: &Path, _: Source) -> Result<DoctorReport> {
        let check = |name: &str, outcome, message: &str| Check { name: name.into(), outcome, message: message.into() };
        Ok(DoctorReport {
            checks: vec![
                check("data directory", CheckOutcome::Pass, "mode 700"),
                check("launcher", self.outcome.unwrap_or(CheckOutcome::Pass), "beside the program"),
            ],
            machine: Machine::of(vec![MachineRow {
                name: "user namespaces".into(),
                standing: RowStanding::Missing,
                detail: "user.max_user_namespaces is 0".into(),
                remedy: Some("sysctl -w user.max_user_namespaces=15000".into()),
                allows: IsolationLevel::None,
            }]),
            controls: vec![Control {
                name: "network wall".into(),
                enforcement: Enforcement::NotEnforced,
                reason: "no sandbox yet".into(),
            }],
        })
    }
}

#[tokio::test]
async fn migrate_says_what_it_did_and_what_it_would_do() {
    let world = World::new();
    let status = world.run("migrate status").await;
    let expected = "database:            SQLite\nschema:              1\nthis program knows:  2\nMigrations
  0001  first_light  applied  1970-01-01T00:00:00.000Z  0.1.0  runs from 1
  0002  second       pending                                   runs from 1
";
    assert_eq!((status.exit, status.out.as_str()), (Exit::Success, expected));
    assert_eq!(status.err, "bring it up with: agent-os migrate up\n");
    for (words, exit, note) in [
        ("migrate plan", Exit::Success, "nothing was changed\n"),
        ("migrate plan --check", Exit::Refused, "nothing was changed\n"),
        ("migrate plan --to 1", Exit::Success, "nothing was changed\n"),
        ("migrate up --check", Exit::Success, "it can be done; nothing was changed\n"),
        ("migrate up", Exit::Success, ""),
        ("migrate up --backup-taken", Exit::Success, ""),
        ("migrate down --to 1", Exit::Success, ""),
        ("migrate down --to 0", Exit::Usage, "error: invalid value '0' for '--to <N>'"),
        ("migrate down", Exit::Usage, "error: the following required arguments"),
        ("migrate up --check --backup-taken", Exit::Usage, "error: the argument '--check' cannot be used"),
    ] {
        let seen = world.run(words).await;
        assert_eq!(seen.exit, exit, "{words}: {}", seen.err);
        assert!(seen.err.starts_with(note), "{words}: {}", seen.err);
    }
    let expected = "database:            SQLite\nschema:              1\nthis program knows:  2\nSteps\n  down  0002  second  loses notes\n";
    assert_eq!(world.run("migrate plan --to 1").await.out, expected);
    let orders = world.program.migrated.lock().unwrap().join("\n");
    for order in [
        "Plan(Down(1))",
        "Change { way: Up, trial: true, backup_taken: false }",
        "Change { way: Up, trial: false, backup_taken: true }",
        "Change { way: Down(1), trial: false, backup_taken: false }",
    ] {
        assert!(orders.lines().any(|line| line == order), "{order} is missing:\n{orders}");
    }
}

#[tokio::test]
async fn up_reports_when_ready_and_fails_when_the_server_fails() {
    let world = World::new();
    let seen = world.run("up --port 0 --detach --set log.level=debug").await;
    assert_eq!(seen.exit, Exit::Success);
    assert_eq!(seen.out, "url:      http://127.0.0.1:18800\npid:      42\nversion:  0.1.0\n");
    let foreground = world.run("up --quiet").await;
    assert_eq!(foreground.out, "http://127.0.0.1:18800\n", "printed although the server fails later");
    assert_eq!((foreground.exit, foreground.err.as_str()), (Exit::Refused, "error[AOS-1102]: the disk is full\n"));
    let refused = world.run("up --port 1").await;
    assert_eq!((refused.exit, refused.out.as_str()), (Exit::Refused, ""));
    let expected = [r#"Some(0) true [("log.level", "debug")]"#, "None false []", "Some(1) false []"];
    assert_eq!(*world.program.started.lock().unwrap(), expected);
}

#[tokio::test]
async fn init_tells_what_was_made_and_what_comes_next() {
    let seen = World::new().run("init --data-dir /srv/os").await;
    let expected = "data directory:      /srv/os\npublisher key id:    abcd\naudit verifier key:  agent-os/n+1+k\n\
                    files:               keys/audit.vkey  verifies the audit log\n";
    assert_eq!((seen.exit, seen.out.as_str()), (Exit::Success, expected));
    assert_eq!(seen.err, "start the server with: agent-os up --detach --data-dir /srv/os\n");
}

#[tokio::test]
async fn doctor_fails_only_for_a_failed_check() {
    let mut world = World::new();
    let seen = world.run("doctor").await;
    let expected = "Checks
  pass  data directory  mode 700
  pass  launcher        beside the program

Isolation: none
  missing  user namespaces  user.max_user_namespaces is 0
                            remedy: sysctl -w user.max_user_namespaces=15000

Controls
  not-enforced  network wall  no sandbox yet
";
    assert_eq!((seen.exit, seen.out.as_str()), (Exit::Success, expected));
    for (outcome, exit) in [(CheckOutcome::Warn, Exit::Success), (CheckOutcome::Fail, Exit::Refused)] {
        world.program.outcome = Some(outcome);
        assert_eq!(world.run("doctor -o json").await.exit, exit);
    }
}

#[tokio::test]
async fn down_without_a_server_is_a_success() {
    let world = World::new();
    let seen = world.run("down").await;
    assert_eq!((seen.exit, seen.out.as_str()), (Exit::Success, ""));
    assert!(seen.err.starts_with("no server runs for"), "{}", seen.err);
    let stale = World::with_server(|_| unreachable!("down asks nobody")).await;
    let seen = stale.run("down").await;
    assert_eq!(seen.exit, Exit::Success);
    assert!(seen.err.contains("already ended"), "{}", seen.err);
    assert!(!stale.path().join("server.json").exists(), "the stale file is gone");
}
