//! What only providers of several customers have: versions in the address, signatures for a region.

use agentos_wire::Protocol;

use super::{Problems, Provider};
use crate::Kind;

/// The first version that tells the usage of a stream and knows `max_completion_tokens`. With an older one no stream could be
/// billed as the provider bills it.
const AZURE_VERSION_MIN: &str = "2024-09-01";
const VERSION_BYTES_MAX: usize = 32;

impl Provider {
    /// Its `api_version` is a date, and so its addresses are those of deployments.
    pub fn is_dated(&self) -> bool {
        self.api_version.as_deref().is_some_and(|version| version.starts_with(|first: char| first.is_ascii_digit()))
    }
}

pub(super) fn check(problems: &mut Problems, field: &str, provider: &Provider) {
    check_version(problems, &format!("{field}.api_version"), provider);
    check_region(problems, &format!("{field}.sigv4_region"), provider);
    if provider.kind != Kind::Bedrock {
        return;
    }
    let of_models = provider.models.iter().map(|(name, model)| (format!("{field}.models.{name}"), &model.protocols));
    for (field, protocols) in std::iter::once((field.to_owned(), &provider.protocols)).chain(of_models) {
        if protocols.contains(&Protocol::Gemini) {
            problems
                .add(format!("{field}.protocols"), "Bedrock has no such endpoint; `chat`, `responses` or `messages`");
        }
    }
}

fn check_version(problems: &mut Problems, field: &str, provider: &Provider) {
    let Some(version) = &provider.api_version else { return };
    if !matches!(provider.kind, Kind::Azure | Kind::OpenaiCompatible) {
        problems.add(field, format!("a provider of kind '{}' has no versions in its addresses", provider.kind));
    }
    let is_word = (1..=VERSION_BYTES_MAX).contains(&version.len())
        && version.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !is_word {
        problems.add(field, "a date such as `2024-10-21`, or a word such as `preview`");
    } else if provider.kind == Kind::Azure && provider.is_dated() && version.as_str() < AZURE_VERSION_MIN {
        problems.add(field, format!("versions before {AZURE_VERSION_MIN} tell no usage of streams"));
    }
}

fn check_region(problems: &mut Problems, field: &str, provider: &Provider) {
    let Some(region) = &provider.sigv4_region else { return };
    if provider.kind != Kind::Bedrock {
        problems.add(field, "only requests to a provider of kind 'bedrock' are signed");
    }
    let is_name = (1..=VERSION_BYTES_MAX).contains(&region.len())
        && region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if !is_name {
        problems.add(field, "the name of a region, such as `eu-central-1`");
    }
}
