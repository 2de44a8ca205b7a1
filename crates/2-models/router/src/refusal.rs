//! Why nobody can be asked.

use agentos_types::{Code, Fault, Timestamp};

use crate::{Exclusion, Stop};

/// Before anything was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoTarget {
    /// No alias and no model of a provider has this name.
    Unknown {
        model: String,
        choices: Vec<String>,
    },
    /// Several providers have it.
    Ambiguous {
        model: String,
        choices: Vec<String>,
    },
    Disabled {
        model: String,
    },
    /// There are targets, and none of them can do what is asked.
    NotCapable {
        model: String,
        reasons: Vec<(String, Exclusion)>,
    },
    /// All that could are shut until then.
    Unavailable {
        model: String,
        until: Timestamp,
        now: Timestamp,
        stop: Stop,
    },
    /// The time of the request is over.
    Late,
}

impl NoTarget {
    /// The same reason for all of them, or `None`.
    fn common(reasons: &[(String, Exclusion)], is: impl Fn(&Exclusion) -> bool) -> bool {
        !reasons.is_empty() && reasons.iter().all(|(_, reason)| is(reason))
    }
}

fn among(choices: &[String]) -> String {
    if choices.is_empty() { String::new() } else { format!("; did you mean {}?", choices.join(", ")) }
}

impl From<NoTarget> for Fault {
    fn from(refusal: NoTarget) -> Self {
        match refusal {
            NoTarget::Unknown { model, choices } => {
                Fault::new(Code::MODEL_UNKNOWN, format!("there is no model '{model}'{}", among(&choices)))
            }
            NoTarget::Ambiguous { model, choices } => {
                let message = format!("several providers have '{model}': write {}", choices.join(" or "));
                Fault::new(Code::MODEL_AMBIGUOUS, message)
            }
            NoTarget::Disabled { model } => {
                Fault::new(Code::MODEL_DISABLED, format!("the model '{model}' is disabled"))
            }
            NoTarget::NotCapable { model, reasons } => not_capable(&model, &reasons),
            NoTarget::Unavailable { model, until, now, stop } => {
                let why = match stop {
                    Stop::Ramp { .. } => "its usual target failed, and the others take over by and by",
                    _ => "all of its targets fail, limit their rate or refuse their key",
                };
                Fault::new(Code::MODEL_UNAVAILABLE, format!("'{model}' cannot be asked at the moment: {why}"))
                    .retry_after(until.since(now))
                    .fact("reopens_at", until)
                    .hint(format!("`agent-os model explain {model}` says what became of each of them"))
            }
            NoTarget::Late => {
                Fault::new(Code::MODEL_UNAVAILABLE, "the time of the request was over before it was sent")
            }
        }
    }
}

fn not_capable(model: &str, reasons: &[(String, Exclusion)]) -> Fault {
    let told: Vec<String> = reasons.iter().map(|(target, reason)| format!("{target}: {reason}")).collect();
    let code = if NoTarget::common(reasons, |reason| *reason == Exclusion::Disabled) {
        Code::MODEL_DISABLED
    } else if NoTarget::common(reasons, |reason| *reason == Exclusion::PriceUnknown) {
        Code::MODEL_PRICE_UNKNOWN
    } else if NoTarget::common(reasons, |reason| matches!(reason, Exclusion::TooLong { .. })) {
        Code::MODEL_INPUT_TOO_LONG
    } else {
        Code::MODEL_NOT_CAPABLE
    };
    Fault::new(code, format!("no target of '{model}' can answer this request: {}", told.join("; ")))
}
