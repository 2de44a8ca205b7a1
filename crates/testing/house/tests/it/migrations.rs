//! Every migration has its way back, says which programs may run after it, and is told in the guide.

use std::{collections::BTreeSet, fs};

use agentos_store::MIGRATIONS;

use crate::tree::{expect_none, files, root};

const FOLDER: &str = "crates/1-kernel/store/migrations";
const GUIDE: &str = "docs/src/guides/upgrade.md";
/// Words of a step that takes something away from programs that still run.
const CONTRACTS: [&str; 6] = ["DROP TABLE", "DROP COLUMN", "RENAME", "ALTER COLUMN", "DROP DEFAULT", "ADD CONSTRAINT"];

/// Steps that use such words and take nothing away, by their number.
const KEEPS: [(i64, &str); 1] = [(
    2,
    "the table that is renamed is a partition of the one that takes its name, with the same columns and one more",
)];

#[test]
fn every_migration_has_up_and_down_and_says_who_may_run() {
    let (mut findings, mut number, mut runs_from) = (Vec::new(), 0, 0);
    for migration in MIGRATIONS {
        let name = format!("{:04}_{}", migration.number, migration.name);
        let mut check = |holds: bool, what: &str| {
            if !holds {
                findings.push(format!("{name}: {what}"));
            }
        };
        check(migration.number > number, "stands before a lower number");
        check(!migration.up.trim().is_empty(), "has no way up");
        check(!migration.down.trim().is_empty(), "has no way down");
        check(!migration.loses.trim().is_empty(), "does not say what is lost when it is reverted");
        check((1..=migration.number).contains(&migration.runs_from), "names a program that there never was");
        check(migration.runs_from >= runs_from, "lets programs run that a step before it has shut out");
        for (end, text) in [
            ("up", migration.up),
            ("sqlite.up", migration.up_sqlite),
            ("postgres.up", migration.up_postgres),
            ("down", migration.down),
            ("sqlite.down", migration.down_sqlite),
            ("postgres.down", migration.down_postgres),
        ] {
            let file = fs::read_to_string(root().join(FOLDER).join(format!("{name}.{end}.sql"))).unwrap_or_default();
            check(file == text, &format!("has not the text of its file for {end}"));
        }
        let ups = [migration.up, migration.up_sqlite, migration.up_postgres].concat().to_uppercase();
        let takes = CONTRACTS.iter().find(|words| ups.contains(*words));
        check(
            takes.is_none()
                || migration.runs_from > runs_from
                || KEEPS.iter().any(|(number, _)| *number == migration.number),
            &format!("says {} and still lets the programs of the step before run", takes.unwrap_or(&"")),
        );
        (number, runs_from) = (migration.number, migration.runs_from);
    }
    expect_none(findings, "see the checklist of a migration in CONTRIBUTING.md");
}

#[test]
fn every_file_belongs_to_a_migration() {
    let known: BTreeSet<String> = MIGRATIONS.iter().map(|step| format!("{:04}_{}", step.number, step.name)).collect();
    let findings = files(FOLDER, &[".sql"])
        .into_iter()
        .map(|file| file.path)
        .filter(|path| {
            let name = path.rsplit('/').next().unwrap_or_default().split('.').next().unwrap_or_default();
            !known.contains(name)
        })
        .collect();
    expect_none(findings, "add it to MIGRATIONS, or take it away");
}

#[test]
fn every_migration_is_told_in_the_guide() {
    let guide = fs::read_to_string(root().join(GUIDE)).unwrap();
    let findings = MIGRATIONS
        .iter()
        .map(|step| format!("| {:04} | {} | {} | {} |", step.number, step.name, step.runs_from, step.loses))
        .filter(|row| !guide.lines().any(|line| line == row))
        .collect();
    expect_none(findings, "add the row to the table of migrations in docs/src/guides/upgrade.md");
}
