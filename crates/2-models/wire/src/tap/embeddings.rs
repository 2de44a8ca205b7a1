//! The answer to a request for embeddings.

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{State, is_error};
use crate::{chat::Figures, told::Told};

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(default)]
    data: Option<Vec<IgnoredAny>>,
    #[serde(default)]
    usage: Option<Figures>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

pub(super) fn whole(state: &mut State, body: &[u8]) -> Told {
    let Ok(answer) = serde_json::from_slice::<Body<'_>>(body) else { return Told::Malformed };
    if is_error(answer.error) {
        return Told::Error;
    }
    if answer.data.is_none_or(|data| data.is_empty()) {
        return Told::Malformed;
    }
    state.usage = answer.usage.and_then(|usage| usage.usage());
    Told::Terminal
}
