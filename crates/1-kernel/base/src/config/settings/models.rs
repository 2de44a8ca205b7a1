//! Calls of models: what they may hold, how long they may take, and how their providers are looked after.

use crate::config::setting::{Kind, Setting, range, setting};

pub(super) const MODELS: &[Setting] = &[
    setting(
        "models.body_bytes_max",
        "AGENT_OS_MODELS_BODY_BYTES_MAX",
        range(1_024, 134_217_728),
        "33554432",
        "Largest body of a call of a model in bytes, on the gateway and inside of sandboxes.",
    ),
    setting(
        "models.held_bytes_max",
        "AGENT_OS_MODELS_HELD_BYTES_MAX",
        range(1_048_576, 68_719_476_736),
        "268435456",
        "Bytes of the bodies of all calls of models that are held at once; not less than models.body_bytes_max.",
    ),
    setting(
        "models.answer_timeout_s",
        "AGENT_OS_MODELS_ANSWER_TIMEOUT_S",
        range(1, 3_600),
        "600",
        "Seconds for all attempts at a model, up to the first event of a stream or the end of a whole answer.",
    ),
    setting(
        "models.answer_tokens_max",
        "AGENT_OS_MODELS_ANSWER_TOKENS_MAX",
        range(16, 10_000_000),
        "16384",
        "Tokens that a budget reserves for an answer whose client names no limit, and the limit that is then written.",
    ),
    setting(
        "models.shorten_answers",
        "AGENT_OS_MODELS_SHORTEN_ANSWERS",
        Kind::Boolean,
        "false",
        "Lower the limit of an answer to what is left of a budget, instead of refusing the call.",
    ),
    setting(
        "models.probe_interval_s",
        "AGENT_OS_MODELS_PROBE_INTERVAL_S",
        range(0, 86_400),
        "60",
        "Seconds between two looks at a provider that nobody asks or that failed, by its list of models; 0 never looks.",
    ),
];
