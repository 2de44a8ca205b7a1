//! The answer to a request for embeddings.

use bytes::Bytes;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{Seen, State, chat::ChatUsage, is_error};

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(default)]
    data: Option<Vec<IgnoredAny>>,
    #[serde(default)]
    usage: Option<ChatUsage>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

pub(super) fn whole(state: &mut State, body: &[u8]) -> Seen {
    let Ok(answer) = serde_json::from_slice::<Body<'_>>(body) else { return Seen::Malformed };
    if is_error(answer.error) {
        return Seen::Error(Bytes::copy_from_slice(body));
    }
    if answer.data.is_none_or(|data| data.is_empty()) {
        return Seen::Malformed;
    }
    state.usage = answer.usage.and_then(|usage| usage.usage());
    state.terminal = true;
    Seen::Terminal
}
