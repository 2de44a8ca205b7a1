//! One figure: what was measured, what was promised, what it is compared with.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::sample::Rounds;

/// The side of the limit on which a figure must lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    AtMost,
    AtLeast,
}

/// What was promised. A goal that depends on the machine is computed from a probe of the same run.
#[derive(Clone, Debug)]
pub struct Goal {
    side: Side,
    limit: f64,
    /// How the limit came about, when it is not a constant.
    from: Option<String>,
}

impl Goal {
    pub fn at_most(limit: f64) -> Self {
        Self { side: Side::AtMost, limit, from: None }
    }

    pub fn at_least(limit: f64) -> Self {
        Self { side: Side::AtLeast, limit, from: None }
    }

    /// `times` × the p95 of the fsync probe + `plus_ms`.
    pub fn of_fsync(times: f64, fsync: &Rounds, plus_ms: f64) -> Self {
        let limit = times * fsync.p95() + plus_ms;
        Self { side: Side::AtMost, limit, from: Some(format!("{times} × fsync p95 + {plus_ms} ms")) }
    }

    /// How the limit came about.
    #[must_use]
    pub fn from(mut self, from: impl Into<String>) -> Self {
        self.from = Some(from.into());
        self
    }

    fn is_met(&self, value: f64) -> bool {
        match self.side {
            Side::AtMost => value <= self.limit,
            Side::AtLeast => value >= self.limit,
        }
    }
}

/// A peer or a limit of the machine, measured between the rounds of the figure.
#[derive(Clone, Debug)]
struct Beside {
    what: String,
    value: f64,
    /// The figure divided by this.
    ratio: f64,
}

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Figure {
    name: String,
    unit: &'static str,
    /// Labelled values, in the order in which they are printed.
    values: Vec<(&'static str, f64)>,
    /// The one value that is held against the goal.
    judged: f64,
    judged_label: &'static str,
    count: usize,
    rounds: usize,
    goal: Option<Goal>,
    beside: Option<Beside>,
    note: Option<String>,
}

impl Figure {
    /// A distribution in milliseconds: p50 and `q`, which is judged.
    pub fn times(name: impl Into<String>, rounds: &Rounds, q: f64) -> Self {
        let label = if q > 0.98 { "p99" } else { "p95" };
        let values = vec![("p50", rounds.median()), (label, rounds.quantile(q))];
        Self::new(name, "ms", values, rounds).judge(label)
    }

    /// Values of another unit; the first is judged.
    pub fn values(
        name: impl Into<String>,
        unit: &'static str,
        values: Vec<(&'static str, f64)>,
        rounds: &Rounds,
    ) -> Self {
        Self::new(name, unit, values, rounds)
    }

    fn new(name: impl Into<String>, unit: &'static str, values: Vec<(&'static str, f64)>, rounds: &Rounds) -> Self {
        let (judged_label, judged) = values.first().copied().unwrap_or(("", f64::NAN));
        Self {
            name: name.into(),
            unit,
            values,
            judged,
            judged_label,
            count: rounds.count(),
            rounds: rounds.rounds(),
            goal: None,
            beside: None,
            note: None,
        }
    }

    /// Holds the value with this label against the goal.
    #[must_use]
    pub fn judge(mut self, label: &'static str) -> Self {
        if let Some((_, value)) = self.values.iter().find(|(name, _)| *name == label) {
            (self.judged_label, self.judged) = (label, *value);
        }
        self
    }

    #[must_use]
    pub fn goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }

    /// Compares the judged value with `value`, of the same unit.
    #[must_use]
    pub fn beside(self, what: impl Into<String>, value: f64) -> Self {
        let judged = self.judged;
        self.compare(what, value, judged)
    }

    /// Compares the value with the label `own`, which is not the judged one.
    #[must_use]
    pub fn beside_of(self, own: &str, what: impl Into<String>, value: f64) -> Self {
        let mine = self.values.iter().find(|(name, _)| *name == own).map_or(f64::NAN, |(_, mine)| *mine);
        self.compare(what, value, mine)
    }

    fn compare(mut self, what: impl Into<String>, value: f64, mine: f64) -> Self {
        self.beside = Some(Beside { what: what.into(), value, ratio: mine / value });
        self
    }

    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// `None` without a goal. A value that could not be computed meets no goal.
    pub fn is_met(&self) -> Option<bool> {
        self.goal.as_ref().map(|goal| goal.is_met(self.judged))
    }

    /// The cells of the line: figure, measured, n, goal, beside, ratio, met.
    pub fn cells(&self) -> [String; 7] {
        let mut measured = String::new();
        for (label, value) in &self.values {
            let space = if label.is_empty() { "" } else { " " };
            let _ = write!(measured, "{label}{space}{}  ", number(*value));
        }
        let goal = self.goal.as_ref().map_or_else(String::new, |goal| {
            let sign = if goal.side == Side::AtMost { "≤" } else { "≥" };
            let label = if self.judged_label.is_empty() { String::new() } else { format!("{} ", self.judged_label) };
            let from = goal.from.as_ref().map_or_else(String::new, |from| format!(" ({from})"));
            format!("{label}{sign} {} {}{from}", number(goal.limit), self.unit)
        });
        let beside = self.beside.as_ref();
        [
            self.name.clone(),
            format!("{} {}", measured.trim_end(), self.unit),
            format!("{} in {}", self.count, self.rounds),
            goal,
            beside.map_or_else(String::new, |other| format!("{} {} {}", other.what, number(other.value), self.unit)),
            beside.map_or_else(String::new, |other| number(other.ratio)),
            match self.is_met() {
                Some(true) => "met".into(),
                Some(false) => "NOT MET".into(),
                None => "-".into(),
            },
        ]
    }

    pub fn note_text(&self) -> Option<&str> {
        self.note.as_deref()
    }

    pub fn to_json(&self) -> Value {
        let values: Map<String, Value> = self
            .values
            .iter()
            .map(|(label, value)| (if label.is_empty() { "value" } else { label }.to_owned(), json!(value)))
            .collect();
        json!({
            "figure": self.name, "unit": self.unit, "measured": values, "n": self.count, "rounds": self.rounds,
            "goal": self.goal.as_ref().map(|goal| json!({
                "of": self.judged_label, "at_most": goal.side == Side::AtMost, "limit": goal.limit, "from": goal.from,
            })),
            "beside": self.beside.as_ref().map(|other| json!({
                "what": other.what, "value": other.value, "ratio": other.ratio,
            })),
            "met": self.is_met(), "note": self.note,
        })
    }
}

/// Three significant digits for small numbers, whole ones above a hundred.
pub fn number(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "-".into(),
        size if size >= 100.0 => grouped(value),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Thousands apart.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) && !text.ends_with('-') {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, text) in
            [(1_234_567.0, "1 234 567"), (-12_345.0, "-12 345"), (99.44, "99.4"), (1.5, "1.50"), (0.0123, "0.012")]
        {
            assert_eq!(number(value), text);
        }
        assert_eq!(number(f64::NAN), "-");
    }

    #[test]
    fn a_goal_is_met_on_its_side_only() {
        let rounds: Rounds = [vec![10.0]].into_iter().collect();
        let figure = |goal| Figure::values("x", "MB", vec![("", 10.0)], &rounds).goal(goal).is_met();
        assert_eq!(figure(Goal::at_most(10.0)), Some(true));
        assert_eq!(figure(Goal::at_most(9.9)), Some(false));
        assert_eq!(figure(Goal::at_least(10.1)), Some(false));
        let nothing = Figure::values("x", "MB", vec![("", f64::NAN)], &rounds).goal(Goal::at_most(1.0));
        assert_eq!(nothing.is_met(), Some(false));
    }

    #[test]
    fn the_judged_value_is_the_one_that_is_compared() {
        let rounds: Rounds = [(1..=100).map(f64::from).collect()].into_iter().collect();
        let fsync: Rounds = [vec![4.0]].into_iter().collect();
        let figure = Figure::times("t", &rounds, 0.95).goal(Goal::of_fsync(5.0, &fsync, 2.0)).beside("fsync p95", 4.0);
        let cells = figure.cells();
        assert_eq!(cells[1], "p50 50.0  p95 95.0 ms");
        assert_eq!(cells[3], "p95 ≤ 22.0 ms (5 × fsync p95 + 2 ms)");
        assert_eq!((cells[5].as_str(), cells[6].as_str()), ("23.8", "NOT MET"));
        assert_eq!(figure.to_json()["met"], false);
    }
}
