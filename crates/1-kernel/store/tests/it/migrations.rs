//! The schema's way up and back on each database, by programs of different age.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use agentos_base::Ambient;
use agentos_scratch::Scratch;
use agentos_store::{
    BACKUPS_DIRECTORY, Backup, Database, Dialect, MIGRATIONS, Migration, Migrator, Store, StoreOptions, Way,
};
use agentos_types::{Code, Result, Timestamp};
use tempfile::TempDir;

use super::BACKEND;
use crate::future::{CONTRACTED, EXPANDED, broken_release, next_release, release_after_next};

struct House {
    directory: TempDir,
    scratch: Scratch,
}

fn house() -> House {
    House { directory: tempfile::tempdir().unwrap(), scratch: BACKEND.blank() }
}

fn today() -> i64 {
    MIGRATIONS.last().unwrap().number
}

impl House {
    fn database(&self) -> Option<Database> {
        self.scratch.urls().map(|(url, admin)| Database::parse(url, Some(admin)).unwrap())
    }

    /// As a program that knows these.
    fn open(&self, known: &'static [Migration]) -> Result<Store> {
        self.open_on(self.database(), known)
    }

    fn open_on(&self, database: Option<Database>, known: &'static [Migration]) -> Result<Store> {
        let options = StoreOptions {
            directory: self.directory.path().into(),
            database,
            queue_max: 64,
            readers: 2,
            sequencer: None,
            ambient: Ambient::fake(1, Timestamp::from_millis(1)).0,
        };
        Store::open_as(options, known)
    }

    fn migrator(&self, known: &'static [Migration]) -> Migrator {
        let ambient = Ambient::fake(1, Timestamp::from_millis(1)).0;
        Migrator::open_as(self.directory.path(), self.database(), ambient, known).unwrap()
    }

    /// Behind everybody's back, as whoever may do everything.
    async fn sql(&self, known: &'static [Migration], statements: &[&'static str]) {
        if self.scratch.urls().is_some() {
            let text = statements.join("; ");
            return self.scratch.postgres().run(&format!("SET search_path = agent_os; {text}"));
        }
        let (store, statements) = (self.open(known).unwrap(), statements.to_vec());
        let all = store.write(move |tx| statements.iter().try_for_each(|sql| tx.execute(sql, &[]).map(drop)));
        all.await.unwrap();
    }

    /// The schema as a program sees it: what there is, and not how its text is laid out.
    async fn dump(&self, known: &'static [Migration]) -> String {
        let store = self.open(known).unwrap();
        if store.dialect() == Dialect::Postgres {
            return self.scratch.postgres().schema_dump();
        }
        let lines = store
            .read(|conn| {
                let mut lines = conn.query(
                    "SELECT t.name, c.cid, c.name, c.type, c.\"notnull\", coalesce(c.dflt_value, '-'), c.pk, t.strict
                     FROM pragma_table_list AS t JOIN pragma_table_info(t.name) AS c ORDER BY t.name, c.cid",
                    &[],
                    |row| {
                        let numbers = [row.integer(1)?, row.integer(4)?, row.integer(6)?, row.integer(7)?];
                        Ok(format!("{} {} {} {} {numbers:?}", row.text(0)?, row.text(2)?, row.text(3)?, row.text(5)?))
                    },
                )?;
                lines.extend(conn.query(
                    "SELECT name, coalesce(sql, '') FROM sqlite_schema WHERE type <> 'table' ORDER BY name",
                    &[],
                    |row| Ok(format!("{}: {}", row.text(0)?, row.text(1)?)),
                )?);
                Ok(lines)
            })
            .await;
        lines.unwrap().join("\n")
    }

    fn backups(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.directory.path().join(BACKUPS_DIRECTORY)).into_iter().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    }
}

async fn put(store: &Store, name: &'static str) -> Result<usize> {
    store.write(move |tx| tx.execute("INSERT INTO installation (name, value) VALUES ($1, 'v')", &[name.into()])).await
}

async fn names(store: &Store) -> Vec<String> {
    let all = "SELECT name FROM installation ORDER BY name";
    store.read(move |conn| conn.query(all, &[], |row| row.text(0))).await.unwrap()
}

/// Every release there was, and two that may come.
fn releases() -> Vec<&'static [Migration]> {
    let all = release_after_next();
    (1..=all.len()).map(|known| &all[..known]).collect()
}

#[tokio::test]
async fn every_migration_goes_up_down_and_up_again_to_the_same_schema() {
    let house = house();
    let mut before: Option<(&'static [Migration], String)> = None;
    for release in releases() {
        let there = house.dump(release).await;
        assert!(there.contains("audit_record") && there.contains("task_ready"), "{there}");
        if let Some((older, expected)) = before {
            assert_ne!(there, expected, "step {} changes nothing", release.last().unwrap().number);
            let way = Way::Down(older.last().unwrap().number);
            house.migrator(release).migrate(way, Backup::Taken).unwrap();
            assert_eq!(house.dump(older).await, expected, "down from {}", release.last().unwrap().number);
            assert_eq!(house.dump(release).await, there, "up again to {}", release.last().unwrap().number);
        }
        before = Some((release, there));
    }
    // The whole way at once, and to nothing.
    let (all, expected) = before.unwrap();
    let done = house.migrator(all).migrate(Way::Down(0), Backup::Taken).unwrap();
    assert_eq!((done.from, done.to, done.steps.len()), (CONTRACTED, 0, all.len()));
    assert_eq!(house.dump(all).await, expected);
}

#[tokio::test]
async fn a_schema_that_was_made_step_by_step_is_the_one_that_is_made_at_once() {
    let (slow, quick) = (house(), house());
    for release in releases() {
        drop(slow.open(release).unwrap());
    }
    assert_eq!(slow.dump(release_after_next()).await, quick.dump(release_after_next()).await);
}

#[tokio::test]
async fn an_older_program_runs_on_every_schema_that_lets_it_and_is_refused_beyond() {
    for (at, newest) in releases().into_iter().enumerate() {
        let house = house();
        drop(house.open(newest).unwrap());
        for older in releases().into_iter().take(at + 1) {
            let knows = older.last().unwrap().number;
            let lets = newest.iter().all(|step| step.number <= knows || step.runs_from <= knows);
            match house.open(older) {
                Ok(store) => {
                    assert!(lets, "{knows} must not run on {}", newest.last().unwrap().number);
                    assert_eq!(store.schema(), newest.last().unwrap().number);
                    let name: &'static str = Box::leak(format!("by-{knows}").into_boxed_str());
                    put(&store, name).await.unwrap();
                    assert!(names(&store).await.contains(&name.to_owned()));
                }
                Err(refused) => {
                    assert!(!lets, "{knows} on {}: {refused}", newest.last().unwrap().number);
                    assert_eq!(refused.code, Code::SCHEMA_NEWER);
                    let text = format!("{} {}", refused.message, refused.hint.unwrap());
                    for word in [&format!("schema {CONTRACTED}"), &format!("knows {knows}"), "0.1.0", "migrate down"] {
                        assert!(text.contains(word), "'{word}' is missing: {text}");
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn a_newer_schema_that_says_nothing_and_a_changed_migration_are_refused() {
    for (change, code) in [
        (
            "INSERT INTO schema_migration (number, name, sha256, applied_at) VALUES (9999, 'x', '', 0)",
            Code::SCHEMA_NEWER,
        ),
        ("UPDATE schema_migration SET sha256 = 'other' WHERE number = 1", Code::MIGRATION_CHANGED),
        ("DELETE FROM schema_migration WHERE number = 9001", Code::MIGRATION_CHANGED),
    ] {
        let house = house();
        drop(house.open(release_after_next()).unwrap());
        house.sql(release_after_next(), &[change]).await;
        assert_eq!(house.open(release_after_next()).unwrap_err().code, code, "{change}");
        assert_eq!(house.migrator(release_after_next()).schema().unwrap_err().code, code, "{change}");
    }
}

/// The memory of the first program had no place for what later ones say.
#[tokio::test]
async fn the_memory_of_the_first_program_is_read_and_extended() {
    let house = house();
    drop(house.open(&MIGRATIONS[..1]).unwrap());
    let forget =
        ["ALTER TABLE schema_migration DROP COLUMN runs_from", "ALTER TABLE schema_migration DROP COLUMN applied_by"];
    house.sql(&MIGRATIONS[..1], &forget).await;
    let schema = house.migrator(next_release()).schema().unwrap();
    assert_eq!((schema.number, schema.pending.len()), (1, next_release().len() - 1));
    assert_eq!((schema.applied[0].runs_from, schema.applied[0].runs_from()), (None, 1));
    assert_eq!(house.open(next_release()).unwrap().schema(), EXPANDED);
    house.open(MIGRATIONS).unwrap();
}

#[tokio::test]
async fn before_a_change_of_what_holds_data_a_private_backup_is_taken() {
    let house = house();
    // Nothing to lose yet.
    put(&house.open(MIGRATIONS).unwrap(), "kept").await.unwrap();
    assert_eq!(house.backups(), Vec::<PathBuf>::new());
    // Nothing to do.
    drop(house.open(MIGRATIONS).unwrap());
    assert_eq!(house.backups(), Vec::<PathBuf>::new());
    put(&house.open(next_release()).unwrap(), "later").await.unwrap();
    let backups = house.backups();
    assert_eq!(backups.len(), 1, "{backups:?}");
    let name = backups[0].file_name().unwrap().to_str().unwrap().to_owned();
    assert!(name.starts_with(&format!("schema-{}-19700101T000000.001Z.", today())), "{name}");
    assert_eq!(fs::metadata(&backups[0]).unwrap().permissions().mode() & 0o777, 0o600);
    // Back by the backup: what came after it is gone, and what was there is there.
    let restored = super::super::restored(&house.scratch, &backups[0]);
    let store = House { directory: restored.0, scratch: restored.1 };
    let store = store.open(MIGRATIONS).unwrap();
    assert_eq!((store.schema(), names(&store).await), (today(), vec!["kept".to_owned()]));
    // A way down loses more than a way up: one is taken before it too.
    house.migrator(next_release()).migrate(Way::Down(today()), Backup::Take).unwrap();
    assert_eq!(house.backups().len(), 2);
    assert!(names(&house.open(MIGRATIONS).unwrap()).await.contains(&"later".to_owned()));
}

#[tokio::test]
async fn a_migration_that_fails_changes_nothing() {
    let house = house();
    put(&house.open(MIGRATIONS).unwrap(), "kept").await.unwrap();
    let before = house.dump(MIGRATIONS).await;
    assert!(house.open(broken_release()).is_err());
    assert!(house.migrator(broken_release()).migrate(Way::Up, Backup::Trial).is_err());
    assert_eq!(house.dump(MIGRATIONS).await, before);
    assert_eq!(names(&house.open(MIGRATIONS).unwrap()).await, ["kept"]);
}

#[tokio::test]
async fn a_trial_does_everything_and_leaves_nothing() {
    let house = house();
    put(&house.open(MIGRATIONS).unwrap(), "kept").await.unwrap();
    let before = house.dump(MIGRATIONS).await;
    let tried = house.migrator(release_after_next()).migrate(Way::Up, Backup::Trial).unwrap();
    assert_eq!((tried.from, tried.to, tried.steps), (today(), CONTRACTED, vec![EXPANDED, CONTRACTED]));
    assert_eq!((house.dump(MIGRATIONS).await, house.backups()), (before, vec![]));
    drop(house.open(next_release()).unwrap());
    let before = house.dump(next_release()).await;
    let tried = house.migrator(next_release()).migrate(Way::Down(today()), Backup::Trial).unwrap();
    assert_eq!((tried.to, tried.steps), (today(), vec![EXPANDED]));
    assert_eq!(house.dump(next_release()).await, before);
}

#[tokio::test]
async fn nobody_goes_down_a_way_that_is_not_there() {
    let house = house();
    drop(house.open(next_release()).unwrap());
    let way = |target| house.migrator(next_release()).plan(Way::Down(target));
    for target in [-1, EXPANDED + 1] {
        assert_eq!(way(target).unwrap_err().code, Code::USAGE);
    }
    assert_eq!(way(EXPANDED).unwrap().len(), 0);
    assert_eq!(way(today()).unwrap()[0].number, EXPANDED);
    // Who does not know the step cannot revert it.
    let older = house.migrator(MIGRATIONS);
    let refused = older.migrate(Way::Down(0), Backup::Take).unwrap_err();
    assert_eq!(refused.code, Code::SCHEMA_NEWER);
    assert_eq!(older.schema().unwrap().unknown, [EXPANDED]);
    assert_eq!(older.plan(Way::Up).unwrap().len(), 0);
}

#[tokio::test]
async fn while_a_server_runs_nobody_migrates() {
    let house = house();
    let store = house.open(MIGRATIONS).unwrap();
    let ambient = Ambient::fake(1, Timestamp::from_millis(1)).0;
    let elsewhere = tempfile::tempdir().unwrap();
    let mut places = vec![house.directory.path()];
    if store.dialect() == Dialect::Postgres {
        // The database is as locked as the directory.
        places.push(elsewhere.path());
    }
    for place in places {
        let refused = Migrator::open(place, house.database(), ambient.clone()).unwrap_err();
        assert_eq!(refused.code, Code::STORE_LOCKED);
    }
    drop(store);
    let migrator = house.migrator(MIGRATIONS);
    assert_eq!(house.open(MIGRATIONS).unwrap_err().code, Code::STORE_LOCKED);
    drop(migrator);
    house.open(MIGRATIONS).unwrap();
}
