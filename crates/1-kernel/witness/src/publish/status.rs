//! How far the targets have come, for people and for metrics.

use agentos_types::{Result, witness::WitnessTarget};

use super::Publisher;
use crate::rows;

impl Publisher {
    /// Every target of the settings, whether anything has arrived there or not.
    pub async fn status(&self) -> Result<Vec<WitnessTarget>> {
        let names: Vec<String> = self.shared.options.targets().map(str::to_owned).collect();
        let found = self
            .shared
            .parts
            .store
            .read(move |conn| {
                names.into_iter().map(|name| Ok((rows::read(conn, &name)?, name))).collect::<Result<Vec<_>>>()
            })
            .await?;
        let targets = found.into_iter().map(|(row, target)| {
            let attempts = self.with_attempts(&target, |attempts| attempts.clone());
            let arrived = row.as_ref().filter(|row| row.frontier.size() > 0);
            WitnessTarget {
                size: arrived.map(|row| row.frontier.size()),
                at: arrived.map(|row| row.at),
                note: arrived.map(|row| row.note.clone()),
                refused: row.as_ref().and_then(|row| row.refused),
                failures: attempts.failures,
                failures_total: attempts.failures_total,
                problem: attempts.problem,
                target,
            }
        });
        Ok(targets.collect())
    }
}
