//! What a machine can enforce, as a table that a person reads: `doctor` prints it, the startup checks judge by it.

use serde::{Deserialize, Serialize};

/// How much of the wall around agents stands on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum IsolationLevel {
    /// Agents run with the rights of the server's user, or cannot be started.
    None,
    /// The walls stand; a second wall behind one of them, or the bound of a resource, is missing.
    Reduced,
    /// Every wall and every bound that an agent can ask for.
    Strong,
}

impl IsolationLevel {
    pub fn as_str(self) -> &'static str {
        match self {
            IsolationLevel::None => "none",
            IsolationLevel::Reduced => "reduced",
            IsolationLevel::Strong => "strong",
        }
    }
}

/// How one part stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RowStanding {
    Present,
    /// Less than there could be.
    Partial,
    Missing,
    /// Worth knowing; nothing depends on it.
    Noted,
}

/// One part of what protects a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MachineRow {
    /// For example `user namespaces`.
    pub name: String,
    pub standing: RowStanding,
    /// What was found.
    pub detail: String,
    /// What makes it better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The highest level that this machine has with this part as it is.
    pub allows: IsolationLevel,
}

/// What this machine can enforce.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Machine {
    pub level: IsolationLevel,
    pub rows: Vec<MachineRow>,
}

impl Machine {
    /// The level is that of the weakest part.
    pub fn of(rows: Vec<MachineRow>) -> Self {
        let level = rows.iter().map(|row| row.allows).min().unwrap_or(IsolationLevel::None);
        Self { level, rows }
    }

    /// The parts that keep the machine below a level, the gravest first.
    pub fn below(&self, level: IsolationLevel) -> Vec<&MachineRow> {
        let mut rows: Vec<&MachineRow> = self.rows.iter().filter(|row| row.allows < level).collect();
        rows.sort_by_key(|row| row.allows);
        rows
    }

    pub fn row(&self, name: &str) -> Option<&MachineRow> {
        self.rows.iter().find(|row| row.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, allows: IsolationLevel) -> MachineRow {
        MachineRow { name: name.into(), standing: RowStanding::Present, detail: "found".into(), remedy: None, allows }
    }

    #[test]
    fn the_weakest_part_is_the_level() {
        use IsolationLevel::{None, Reduced, Strong};
        let machine = Machine::of(vec![row("a", Strong), row("b", Reduced), row("c", None), row("d", Strong)]);
        assert_eq!(machine.level, None);
        let names = |level| machine.below(level).iter().map(|row| row.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(Strong), ["c", "b"]);
        assert_eq!(names(Reduced), ["c"]);
        assert_eq!(Machine::of(vec![row("a", Strong)]).level, Strong);
        assert_eq!(Machine::of(Vec::new()).level, None, "nothing known is nothing held");
    }
}
