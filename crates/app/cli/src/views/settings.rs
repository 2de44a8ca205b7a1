//! Rows of `config schema` and `config show`.

use agentos_base::config::{Kind, Origin, Setting, Value};
use serde::Serialize;

use super::View;

/// One setting as the table of settings has it.
#[derive(Debug, Serialize)]
pub(crate) struct SettingRow {
    key: &'static str,
    variable: &'static str,
    kind: String,
    default: &'static str,
    about: &'static str,
    /// The feature is not built yet; setting it refuses the start.
    reserved: bool,
}

impl SettingRow {
    pub(crate) fn of(setting: &Setting) -> Self {
        let kind = match setting.kind {
            Kind::Text => "text".to_owned(),
            Kind::Choice(choices) => choices.join("|"),
            Kind::Boolean => "true|false".to_owned(),
            Kind::Integer { min, max } => format!("{min}..{max}"),
            Kind::Ratio => "0..1".to_owned(),
            Kind::List => "list".to_owned(),
        };
        let Setting { key, env, default, about, reserved, .. } = *setting;
        Self { key, variable: env, kind, default, about, reserved }
    }
}

impl View for SettingRow {
    const COLUMNS: &'static [&'static str] = &["key", "variable", "type", "default", "about"];
    const CELL_CHARS_MAX: usize = usize::MAX;

    fn cells(&self) -> Vec<String> {
        let about = if self.reserved { format!("(reserved) {}", self.about) } else { self.about.to_owned() };
        vec![self.key.to_owned(), self.variable.to_owned(), self.kind.clone(), self.default.to_owned(), about]
    }

    fn key(&self) -> String {
        self.key.to_owned()
    }
}

/// One setting's value, with the place it comes from if that was asked for.
#[derive(Debug, Serialize)]
pub(crate) struct ValueRow<const WITH_ORIGIN: bool> {
    key: &'static str,
    value: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<&'static str>,
}

impl<const WITH_ORIGIN: bool> ValueRow<WITH_ORIGIN> {
    pub(crate) fn new(key: &'static str, value: &Value, origin: Origin) -> Self {
        Self { key, value: value.to_string(), origin: WITH_ORIGIN.then_some(origin.as_str()) }
    }
}

impl<const WITH_ORIGIN: bool> View for ValueRow<WITH_ORIGIN> {
    const COLUMNS: &'static [&'static str] = if WITH_ORIGIN { &["key", "value", "origin"] } else { &["key", "value"] };
    const CELL_CHARS_MAX: usize = usize::MAX;

    fn cells(&self) -> Vec<String> {
        let mut cells = vec![self.key.to_owned(), self.value.clone()];
        cells.extend(self.origin.map(str::to_owned));
        cells
    }

    fn key(&self) -> String {
        self.value.clone()
    }
}
