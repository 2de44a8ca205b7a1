//! Identifiers as newtypes: a task id can never be passed where a token id is meant.
//!
//! Generated ids are `prefix_` + ULID (sortable by creation time). Time and randomness are passed in; nothing here reads a clock.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Code, Fault, Timestamp};

macro_rules! generated_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schema(value_type = String)]
        pub struct $name(Box<str>);

        impl $name {
            pub const PREFIX: &'static str = $prefix;

            /// Only the lower 80 bits of `random` are used, as in the ULID specification.
            pub fn generate(now: Timestamp, random: u128) -> Self {
                let millis = u64::try_from(now.as_millis()).unwrap_or(0);
                Self(format!(concat!($prefix, "_{}"), ulid::Ulid::from_parts(millis, random)).into())
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        text_id!($name);

        impl FromStr for $name {
            type Err = Fault;
            fn from_str(text: &str) -> Result<Self, Fault> {
                text.strip_prefix(concat!($prefix, "_"))
                    .filter(|rest| rest.len() == 26 && rest.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase()))
                    .map(|_| Self(text.into()))
                    .ok_or_else(|| {
                        Fault::new(Code::INVALID_ID, format!("'{}' is not a {} id", clip(text), $prefix))
                            .hint(concat!("ids look like ", $prefix, "_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E"))
                    })
            }
        }
    };
}

macro_rules! text_id {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = Fault;
            fn try_from(text: String) -> Result<Self, Fault> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.into()
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

macro_rules! slug_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:literal, $extra:pat) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schema(value_type = String)]
        pub struct $name(Box<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        text_id!($name);

        impl FromStr for $name {
            type Err = Fault;
            fn from_str(text: &str) -> Result<Self, Fault> {
                let starts_well = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
                let chars_fit = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, $extra));
                if starts_well && chars_fit && text.len() <= $max {
                    return Ok(Self(text.into()));
                }
                Err(Fault::new(Code::INVALID_ID, format!(concat!("'{}' is not a ", $what), clip(text))).hint(concat!(
                    "a ", $what, " starts with a letter and has at most ", stringify!($max),
                    " lower-case letters, digits and dashes"
                )))
            }
        }
    };
}

generated_id!(
    /// One durable unit of work.
    TaskId, "task");
generated_id!(
    /// One audit record.
    EventId, "evt");
generated_id!(
    /// One life of an agent process: a restart makes a new instance.
    InstanceId, "inst");
generated_id!(
    /// One request at the gateway, echoed in `x-request-id` and every log line of it.
    RequestId, "req");
generated_id!(ScheduleId, "sched");
generated_id!(TokenId, "tok");
slug_id!(
    /// The name that a manifest declares; unique in one installation.
    AgentName, "agent name", 64, b'-');
slug_id!(
    /// The name under which an operator registers another node's audit log, and the id of a log.
    LogName, "log name", 64, b'-');
slug_id!(SecretName, "secret name", 64, b'-' | b'_' | b'.');

/// Keeps hostile input short in messages.
fn clip(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_ids_round_trip_and_sort_by_time() {
        let early = TaskId::generate(Timestamp::from_millis(1), u128::MAX);
        let late = TaskId::generate(Timestamp::from_millis(2), 0);
        assert!(early < late);
        assert_eq!(early.as_str().parse::<TaskId>().unwrap(), early);
        assert!(late.as_str().parse::<TokenId>().is_err(), "ids of another kind are refused");
    }

    #[test]
    fn slugs_refuse_what_could_confuse_paths_or_people() {
        for bad in ["", "A", "a b", "../a", "1a", "a/b", "é", &"a".repeat(65)] {
            assert!(bad.parse::<AgentName>().is_err(), "{bad:?} was accepted");
        }
        assert!("monitor-2".parse::<AgentName>().is_ok());
    }
}
