//! The snapshot, and looking a model up in it. Each family is read when it is first asked for: an installation uses two or three of
//! eighteen, and its start waits for none.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use agentos_types::{Fault, Result};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    Capabilities, Capability, Family, Mode, ModelFacts, Price, Snapshot, Source, corrections::corrected, source::SHA256,
};

const VENDORED: &str = include_str!("../data/models.json");

/// The form of the file that this program reads.
const FORMAT: u32 = 1;

/// Facts of models by family and name. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Catalog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    snapshot: Snapshot,
    families: HashMap<Family, Rows>,
}

/// A family as it stands in the snapshot, and what was read of it.
#[derive(Debug)]
struct Rows {
    text: &'static RawValue,
    /// By the lower-case name.
    models: OnceLock<HashMap<String, Known>>,
}

#[derive(Debug)]
struct Known {
    facts: Arc<ModelFacts>,
    /// A version with a date behind this name is the same.
    dated: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File<'a> {
    format: u32,
    date: String,
    sources: Vec<Source>,
    #[serde(borrow)]
    families: HashMap<Family, &'a RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    names: Vec<String>,
    mode: Mode,
    context: Option<u64>,
    input: Option<u64>,
    output: Option<u64>,
    #[serde(default)]
    yes: Vec<Capability>,
    #[serde(default)]
    no: Vec<Capability>,
    price: Option<Price>,
    #[serde(default)]
    dated: bool,
}

impl Row {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        for (list, can) in [(&self.yes, true), (&self.no, false)] {
            list.iter().for_each(|capability| capabilities.set(*capability, can));
        }
        capabilities
    }
}

impl Catalog {
    /// The snapshot that this program carries.
    pub fn vendored() -> Result<Self> {
        let file: File<'static> = serde_json::from_str(VENDORED)
            .map_err(|error| Fault::internal(format!("the table of models in this program is damaged: {error}")))?;
        if file.format != FORMAT {
            return Err(Fault::internal(format!("the table of models has form {}, not {FORMAT}", file.format)));
        }
        let rows = |text| Rows { text, models: OnceLock::new() };
        let families = file.families.into_iter().map(|(family, text)| (family, rows(text))).collect();
        let snapshot = Snapshot { date: file.date, sha256: SHA256.to_owned(), sources: file.sources };
        Ok(Self { shared: Arc::new(Shared { snapshot, families }) })
    }

    /// Where prices come from, and of which day they are.
    pub fn source(&self) -> &Snapshot {
        &self.shared.snapshot
    }

    /// By the name that the provider knows it under, in any case. Google's `models/` aside, a name is
    /// taken literally: a version that the table does not have is not taken for its neighbour, unless the table says so.
    pub fn facts(&self, family: Family, model: &str) -> Option<&Arc<ModelFacts>> {
        let models = self.models(family)?;
        let name = model.strip_prefix("models/").unwrap_or(model).to_ascii_lowercase();
        if let Some(known) = models.get(&name) {
            return Some(&known.facts);
        }
        let known = models.get(without_date(&name)?)?;
        known.dated.then_some(&known.facts)
    }

    /// All names of a family, in order.
    pub fn names(&self, family: Family) -> Vec<&str> {
        let mut names: Vec<&str> =
            self.models(family).into_iter().flat_map(HashMap::keys).map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    fn models(&self, family: Family) -> Option<&HashMap<String, Known>> {
        let rows = self.shared.families.get(&family)?;
        Some(rows.models.get_or_init(|| match serde_json::from_str(rows.text.get()) {
            Ok(rows) => by_name(rows),
            // A test reads them all. A model without a price is refused where a budget holds.
            Err(error) => {
                tracing::error!(%family, %error, "the table of models in this program is damaged");
                HashMap::new()
            }
        }))
    }
}

fn by_name(rows: Vec<Row>) -> HashMap<String, Known> {
    let mut models = HashMap::with_capacity(rows.len());
    for row in rows {
        let capabilities = row.capabilities();
        let facts = Arc::new(ModelFacts {
            mode: row.mode,
            context: row.context,
            input_max: row.input,
            output_max: row.output,
            capabilities,
            price: row.price.map(Arc::new),
        });
        for name in row.names {
            let said = corrected(&name, capabilities);
            let facts = match said == capabilities {
                true => facts.clone(),
                false => Arc::new(ModelFacts { capabilities: said, ..(*facts).clone() }),
            };
            models.insert(name, Known { facts, dated: row.dated });
        }
    }
    models
}

/// `claude-x-20250929`, `claude-x@20250929`, `gpt-x-2025-08-07`: the name before the date.
fn without_date(name: &str) -> Option<&str> {
    let bytes = name.as_bytes();
    let shapes: [&[u8]; 3] = [b"-dddddddd", b"@dddddddd", b"-dddd-dd-dd"];
    shapes.into_iter().find_map(|shape| {
        let (front, date) = bytes.split_at_checked(bytes.len().checked_sub(shape.len())?)?;
        let fits = shape.iter().zip(date).all(|(form, byte)| match form {
            b'd' => byte.is_ascii_digit(),
            form => form == byte,
        });
        if fits && !front.is_empty() { name.get(..front.len()) } else { None }
    })
}

#[cfg(test)]
pub(crate) mod tests;
