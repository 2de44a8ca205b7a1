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
        let ups = [migration.up, migration.up_sqlite, migration.up_postgres].map(run_now).concat().to_uppercase();
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

/// What a step does when it runs, as programs see it: without the bodies of functions, without names of indexes, and
/// without tables that are renamed to be made again in another form under their old name.
fn run_now(text: &str) -> String {
    let outside: String = text.split("$body$").step_by(2).collect();
    let made_again = |statement: &str| {
        let old = statement.strip_prefix("ALTER TABLE ").and_then(|rest| rest.split_once(" RENAME TO "));
        old.is_some_and(|(old, new)| outside.contains(&format!("CREATE TABLE {old} (LIKE {new} INCLUDING ALL)")))
    };
    let statements = outside.split(';').map(str::trim);
    let seen = statements.filter(|statement| {
        let bare = statement.lines().filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join(" ");
        !bare.starts_with("ALTER INDEX ") && !made_again(bare.trim())
    });
    seen.collect::<Vec<_>>().join(";\n")
}

#[test]
fn a_table_in_another_form_under_its_name_takes_nothing_away() {
    for (text, takes) in [
        ("ALTER TABLE a RENAME TO b;", true),
        ("ALTER TABLE a RENAME TO b; CREATE TABLE c (LIKE b INCLUDING ALL);", true),
        ("ALTER TABLE a RENAME TO b; CREATE TABLE a (LIKE b INCLUDING ALL);", false),
        ("ALTER TABLE a RENAME COLUMN b TO c; CREATE TABLE a (LIKE c INCLUDING ALL);", true),
        ("CREATE FUNCTION f() AS $body$ DROP TABLE a; $body$;", false),
        ("CREATE FUNCTION f() AS $body$ SELECT 1; $body$; DROP TABLE a;", true),
        ("ALTER INDEX a RENAME TO b;", false),
    ] {
        let seen = run_now(text).to_uppercase();
        assert_eq!(CONTRACTS.iter().any(|words| seen.contains(words)), takes, "{text}");
    }
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
