//! From the name that a client wrote to whom it means.

use std::sync::Arc;

use crate::{
    NoTarget,
    config::{Config, Group, Place},
};

/// Choices that a refusal lists.
const CHOICES_MAX: usize = 8;

impl Config {
    /// An alias; `PROVIDER/MODEL`; or a model that exactly one provider has. Never a guess.
    pub(crate) fn resolve(&self, name: &str) -> Result<Arc<Group>, NoTarget> {
        if let Some(route) = self.routes.get(name) {
            if self.document().routes.get(name).is_some_and(|route| route.disabled) {
                return Err(NoTarget::Disabled { model: name.to_owned() });
            }
            return Ok(route.clone());
        }
        if let Some((provider, model)) = name.split_once('/')
            && let Some(place) = self.providers.get(provider)
        {
            if model.is_empty() || place.said.only_listed && !place.said.models.contains_key(model) {
                return Err(self.unknown(name));
            }
            return Ok(Arc::new(self.single(place, model)));
        }
        let serving: Vec<&Arc<Place>> = self.providers.values().filter(|place| self.serves(place, name)).collect();
        match serving.as_slice() {
            [] => Err(self.unknown(name)),
            [place] => Ok(Arc::new(self.single(place, name))),
            places => Err(NoTarget::Ambiguous {
                model: name.to_owned(),
                choices: places.iter().take(CHOICES_MAX).map(|place| format!("{}/{name}", place.name)).collect(),
            }),
        }
    }

    fn serves(&self, place: &Place, model: &str) -> bool {
        let listed = place.said.models.contains_key(model);
        !place.said.disabled && (listed || !place.said.only_listed && self.known(place, model).is_some())
    }

    /// With the names that look most like it.
    fn unknown(&self, name: &str) -> NoTarget {
        let last = |text: &str| text.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
        let wanted = last(name);
        let similar = self.names().into_iter().map(|(known, _)| known).filter(|known| {
            let known = last(known);
            !wanted.is_empty() && (known.contains(&wanted) || wanted.contains(&known))
        });
        NoTarget::Unknown { model: name.to_owned(), choices: similar.take(CHOICES_MAX).collect() }
    }
}
