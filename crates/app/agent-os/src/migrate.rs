//! `migrate`: the schema of a stopped installation, in the words of the command line. The store's locks keep a server out
//! meanwhile.

use agentos_base::{
    Ambient,
    config::{self, Source},
};
use agentos_cli::{MigrateOrder, MigrateReport, MigrateStep, MigrateWay, MigrationLine};
use agentos_store::{Backup, Migration, Migrator, Schema, Way};
use agentos_types::Result;

use crate::{install, install::Installation, layout::Layout};

pub fn run(layout: &Layout, source: &Source, order: MigrateOrder, ambient: Ambient) -> Result<MigrateReport> {
    Installation::load(layout)?;
    let database = install::database(&config::load(&layout.config(), source)?)?;
    let kind = if database.is_some() { "Postgres" } else { "SQLite" };
    let migrator = Migrator::open(layout.root(), database, ambient)?;
    let (mut steps, mut backup) = (Vec::new(), None);
    match order {
        MigrateOrder::Status => {}
        MigrateOrder::Plan(way) => steps = planned(&migrator, way)?,
        MigrateOrder::Change { way, trial, backup_taken } => {
            // Read before the change: what is reverted is no longer planned afterwards.
            steps = planned(&migrator, way)?;
            let rule = match (trial, backup_taken) {
                (true, _) => Backup::Trial,
                (false, true) => Backup::Taken,
                (false, false) => Backup::Take,
            };
            backup = migrator.migrate(store_way(way), rule)?.backup;
        }
    }
    let schema = migrator.schema()?;
    Ok(MigrateReport {
        database: kind.to_owned(),
        schema: schema.number,
        known: migrator.known(),
        migrations: history(&schema),
        changed: matches!(order, MigrateOrder::Change { trial: false, .. }) && !steps.is_empty(),
        steps,
        backup,
    })
}

fn store_way(way: MigrateWay) -> Way {
    match way {
        MigrateWay::Up => Way::Up,
        MigrateWay::Down(target) => Way::Down(target),
    }
}

fn planned(migrator: &Migrator, way: MigrateWay) -> Result<Vec<MigrateStep>> {
    let step = |migration: &Migration| MigrateStep {
        number: migration.number,
        name: migration.name.to_owned(),
        direction: if way == MigrateWay::Up { "up" } else { "down" }.to_owned(),
        loses: (way != MigrateWay::Up).then(|| migration.loses.to_owned()),
    };
    Ok(migrator.plan(store_way(way))?.into_iter().map(step).collect())
}

fn history(schema: &Schema) -> Vec<MigrationLine> {
    let applied = schema.applied.iter().map(|applied| MigrationLine {
        number: applied.number,
        name: applied.name.clone(),
        state: if schema.unknown.contains(&applied.number) { "unknown" } else { "applied" }.to_owned(),
        runs_from: applied.runs_from(),
        applied_at: Some(applied.applied_at),
        applied_by: applied.applied_by.clone(),
    });
    let pending = schema.pending.iter().map(|migration| MigrationLine {
        number: migration.number,
        name: migration.name.to_owned(),
        state: "pending".to_owned(),
        runs_from: migration.runs_from,
        applied_at: None,
        applied_by: None,
    });
    applied.chain(pending).collect()
}
