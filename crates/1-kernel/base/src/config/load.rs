//! Reads the four sources in order and validates each value where it was found, so that an error names the place.

use std::{collections::BTreeMap, fs, path::Path};

use agentos_types::{Code, Fault, Result};

use super::{Config, Kind, OTHERS, Origin, SETTINGS, Setting, Value};

/// The outer sources. The environment is passed in: only `main` reads the process's own.
#[derive(Clone, Debug, Default)]
pub struct Source {
    pub environment: BTreeMap<String, String>,
    /// `(key, text)` from the command line.
    pub flags: Vec<(String, String)>,
}

/// Resolves all settings. `file` may be absent on disk: then defaults, environment and flags decide.
pub fn load(file: &Path, source: &Source) -> Result<Config> {
    let mut values = BTreeMap::new();
    for setting in SETTINGS.iter().filter(|setting| !setting.reserved) {
        values.insert(setting.key, (parse(setting, setting.default, "default")?, Origin::Default));
    }
    for (key, value) in read_file(file)? {
        let place = file.display().to_string();
        let setting = find(&key, &place)?;
        values.insert(setting.key, (from_toml(setting, value, &place)?, Origin::File));
    }
    for setting in SETTINGS {
        // An empty variable counts as unset, as .env files write it.
        if let Some(text) = source.environment.get(setting.env).filter(|text| !text.is_empty()) {
            refuse_reserved(setting, setting.env)?;
            values.insert(setting.key, (parse(setting, text, setting.env)?, Origin::Environment));
        }
    }
    refuse_unknown_variables(source)?;
    for (key, text) in &source.flags {
        let setting = find(key, "command line")?;
        if setting.secret {
            return Err(Fault::new(
                Code::CONFIG_INVALID_VALUE,
                format!("{key} holds a password, and every user of this machine can read a command line"),
            )
            .hint(format!("set {} in the environment, or {key} in the file", setting.env)));
        }
        values.insert(setting.key, (parse(setting, text, "command line")?, Origin::Flag));
    }
    Ok(Config { values })
}

/// Variables that look like ours but are not: a misspelt one would be silently without effect.
fn refuse_unknown_variables(source: &Source) -> Result<()> {
    let ours = |name: &&String| name.starts_with("AGENT_OS_") && !OTHERS.iter().any(|(other, _)| other == name);
    match source.environment.keys().filter(ours).find(|name| !SETTINGS.iter().any(|setting| setting.env == **name)) {
        None => Ok(()),
        Some(name) => Err(unknown(name, "environment", SETTINGS.iter().map(|setting| setting.env))),
    }
}

fn read_file(file: &Path) -> Result<Vec<(String, toml::Value)>> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Fault::new(Code::CONFIG_UNREADABLE, format!("{}: {source}", file.display()))),
    };
    let table: toml::Table =
        text.parse().map_err(|source| Fault::new(Code::CONFIG_UNREADABLE, format!("{}: {source}", file.display())))?;
    let mut values = Vec::new();
    for (section, inner) in table {
        match inner {
            toml::Value::Table(fields) => {
                values.extend(fields.into_iter().map(|(name, value)| (format!("{section}.{name}"), value)));
            }
            value => values.push((section, value)),
        }
    }
    Ok(values)
}

fn find(key: &str, place: &str) -> Result<&'static Setting> {
    let setting = SETTINGS
        .iter()
        .find(|setting| setting.key == key)
        .ok_or_else(|| unknown(key, place, SETTINGS.iter().map(|setting| setting.key)))?;
    refuse_reserved(setting, place)?;
    Ok(setting)
}

fn refuse_reserved(setting: &Setting, place: &str) -> Result<()> {
    if !setting.reserved {
        return Ok(());
    }
    Err(Fault::new(
        Code::CONFIG_RESERVED,
        format!("{} ({}) is reserved: {}", setting.key, setting.env, setting.about.trim_end_matches('.')),
    )
    .hint(format!("remove it from {place}; this version does not have the feature")))
}

fn unknown(name: &str, place: &str, known: impl Iterator<Item = &'static str>) -> Fault {
    let nearest = known.map(|candidate| (distance(name, candidate), candidate)).min();
    let hint = match nearest {
        Some((steps, candidate)) if steps <= 4 => format!("did you mean '{candidate}'?"),
        _ => "list all keys with: agent-os config schema".to_owned(),
    };
    Fault::new(Code::CONFIG_UNKNOWN_KEY, format!("'{name}' in {place} is not a setting")).hint(hint)
}

fn from_toml(setting: &Setting, value: toml::Value, place: &str) -> Result<Value> {
    let text = match value {
        toml::Value::String(text) => text,
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(number) => number.to_string(),
        toml::Value::Boolean(flag) => flag.to_string(),
        toml::Value::Array(items) => items
            .into_iter()
            .map(|item| {
                item.as_str().map(str::to_owned).ok_or_else(|| invalid(setting, "a list of other than texts", place))
            })
            .collect::<Result<Vec<_>>>()?
            .join(","),
        other => return Err(invalid(setting, &other.to_string(), place)),
    };
    parse(setting, &text, place)
}

fn parse(setting: &Setting, text: &str, place: &str) -> Result<Value> {
    let refused = || invalid(setting, text, place);
    match setting.kind {
        Kind::Text => Ok(Value::Text(text.to_owned())),
        Kind::Choice(choices) if choices.contains(&text) => Ok(Value::Text(text.to_owned())),
        Kind::Choice(_) => Err(refused()),
        Kind::Boolean => text.parse().map(Value::Boolean).map_err(|_| refused()),
        Kind::Integer { min, max } => match text.parse::<u64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(Value::Integer(number)),
            _ => Err(refused()),
        },
        Kind::Ratio => match text.parse::<f64>() {
            Ok(number) if (0.0..=1.0).contains(&number) => Ok(Value::Text(text.to_owned())),
            _ => Err(refused()),
        },
        Kind::List => {
            Ok(Value::List(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()))
        }
    }
}

fn invalid(setting: &Setting, text: &str, place: &str) -> Fault {
    let expected = match setting.kind {
        Kind::Text => "a text".to_owned(),
        Kind::Choice(choices) => {
            // The empty choice is that of who does not set it.
            let named: Vec<&str> = choices.iter().copied().filter(|choice| !choice.is_empty()).collect();
            format!("one of {}", named.join(", "))
        }
        Kind::Boolean => "true or false".to_owned(),
        Kind::Integer { min, max } => format!("a number from {min} to {max}"),
        Kind::Ratio => "a number from 0 to 1".to_owned(),
        Kind::List => "a list of texts".to_owned(),
    };
    let shown: String = if setting.secret { "hidden".into() } else { text.chars().take(80).collect() };
    Fault::new(Code::CONFIG_INVALID_VALUE, format!("{} in {place} is '{shown}'", setting.key))
        .hint(format!("write {expected}"))
}

/// Levenshtein distance; the names are short, so the quadratic table is small.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut last = i + 1;
        for (cell, right) in row.iter_mut().skip(1).zip(b.chars()) {
            let substituted = diagonal + usize::from(left != right);
            diagonal = *cell;
            last = substituted.min(diagonal + 1).min(last + 1);
            *cell = last;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}
