//! Retention: days as sentences, counts as one line.

use agentos_api::body::{RetentionRows, RetentionStatus};

use super::{View, optional_time, time};

impl View for RetentionStatus {
    const COLUMNS: &'static [&'static str] = &[
        "tasks",
        "dead letters",
        "events",
        "idempotency keys",
        "credentials",
        "last run",
        "asked by",
        "outcome",
        "taken",
        "taken in all",
        "next run",
    ];

    fn cells(&self) -> Vec<String> {
        let policy = &self.policy;
        let run = self.last_run.as_ref();
        let outcome = match run {
            None => "none yet".to_owned(),
            Some(run) => match (run.finished_at, run.failure) {
                (None, _) => "under way".to_owned(),
                (Some(at), None) => format!("finished {}", time(at)),
                (Some(at), Some(code)) => format!("a part failed with {code}, {}", time(at)),
            },
        };
        let counted = |rows: fn(&agentos_api::body::RetentionCount) -> u64| {
            let counts = self.counts.iter().filter(|count| rows(count) > 0);
            let counts: Vec<_> = counts.map(|count| format!("{} {}", rows(count), count.kind)).collect();
            if counts.is_empty() { "nothing".to_owned() } else { counts.join(", ") }
        };
        vec![
            days(policy.task_days),
            days(policy.dead_letter_days),
            days(policy.event_days),
            days(policy.idempotency_days),
            days(policy.credential_days),
            run.map(|run| time(run.started_at)).unwrap_or_default(),
            run.map(|run| run.asked_by.clone()).unwrap_or_default(),
            outcome,
            counted(|count| count.rows_last),
            counted(|count| count.rows_total),
            optional_time(self.next_at),
        ]
    }

    fn key(&self) -> String {
        if self.running { "running" } else { "resting" }.to_owned()
    }
}

impl View for RetentionRows {
    const COLUMNS: &'static [&'static str] = &["kind", "rows"];

    fn cells(&self) -> Vec<String> {
        vec![self.kind.clone(), self.rows.to_string()]
    }

    fn key(&self) -> String {
        self.kind.clone()
    }
}

fn days(days: u64) -> String {
    match days {
        0 => "for ever".to_owned(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_read_as_people_say_them() {
        for (count, text) in [(0, "for ever"), (1, "1 day"), (30, "30 days")] {
            assert_eq!(days(count), text);
        }
    }
}
