//! What the snapshot says wrongly and somebody would pay for. The data stays as its sources have it, under its hash; what an
//! operator writes into the document stands above both.
//!
//! Not here: prices. A wrong one is corrected in the document, by whoever pays it.

use crate::{Capabilities, Capability};

/// In any family, because resellers hand on what the model's maker takes.
struct Correction {
    /// A part of the name, in lower case.
    names: &'static [&'static str],
    capability: Capability,
    can: bool,
}

/// Each with its reason; a test fails for one that the snapshot no longer needs.
const CORRECTIONS: &[Correction] = &[
    // Anthropic answers 400 to a conversation that ends with the assistant's turn, from this generation on.
    Correction {
        names: &["claude-opus-4.6", "claude-4.6-opus", "claude-sonnet-4-6", "claude-sonnet-4.6", "claude-4.6-sonnet"],
        capability: Capability::Prefill,
        can: false,
    },
];

/// Of a model by its lower-case name. What nobody says stays unsaid.
pub(crate) fn corrected(name: &str, mut said: Capabilities) -> Capabilities {
    for Correction { names, capability, can } in CORRECTIONS {
        if names.iter().any(|part| name.contains(part)) && said.get(*capability).is_some() {
            said.set(*capability, *can);
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Catalog, Family, catalog::tests::as_vendored};

    /// `4-6` and `4.6` wherever they stand in the name of a model of Anthropic's; a date is no version.
    fn version(name: &str) -> Option<(u32, u32)> {
        let (_, rest) = name.split_once("claude-")?;
        let parts: Vec<u32> = rest.split(['-', '.', ':', '@']).filter_map(|part| part.parse().ok()).collect();
        let small = |at: usize| parts.get(at).copied().filter(|part| *part < 100);
        Some((small(0)?, small(1).unwrap_or(0)))
    }

    #[test]
    fn no_model_of_anthropics_from_4_6_on_takes_a_prefill() {
        let catalog = Catalog::vendored().unwrap();
        let mut newer = 0;
        for family in Family::ALL {
            for name in catalog.names(*family) {
                let said = catalog.facts(*family, name).unwrap().capabilities.prefill;
                if version(name).is_some_and(|version| version >= (4, 6)) {
                    newer += 1;
                    assert_ne!(said, Some(true), "{family}: {name}");
                }
            }
        }
        assert!(newer > 30, "only {newer} of this generation were found");
        for (family, name, expected) in [
            (Family::Anthropic, "claude-sonnet-4-6", Some(false)),
            (Family::Anthropic, "claude-sonnet-4-5", Some(true)),
            (Family::Aws, "global.anthropic.claude-sonnet-4-6", Some(false)),
            (Family::Openrouter, "anthropic/claude-opus-4.6", Some(false)),
            (Family::Openrouter, "anthropic/claude-4.6-sonnet-20260217:beta", Some(false)),
        ] {
            assert_eq!(catalog.facts(family, name).unwrap().capabilities.prefill, expected, "{family}: {name}");
        }
    }

    #[test]
    fn every_correction_is_still_needed() {
        let vendored = as_vendored();
        for Correction { names, capability, can } in CORRECTIONS {
            for part in *names {
                let is_wrong =
                    |(name, said): &(String, Capabilities)| name.contains(part) && said.get(*capability) == Some(!can);
                assert!(vendored.iter().any(is_wrong), "the snapshot no longer says {capability:?} wrongly of {part}");
            }
        }
    }

    #[test]
    fn what_nobody_says_stays_unsaid() {
        assert_eq!(corrected("claude-sonnet-4-6", Capabilities::default()), Capabilities::default());
    }
}
