//! One target as a choice sees it: a snapshot of what was true at that instant.

use std::{fmt, time::Duration};

use agentos_catalog::Capability;
use agentos_types::Timestamp;
use serde::{Deserialize, Serialize};

use super::draw_below;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// `PROVIDER/MODEL`.
    pub target: String,
    pub weight: u32,
    /// Why it cannot answer this request, whatever its health.
    pub excluded: Option<Exclusion>,
    /// One for each key; one without a key, if the provider needs none.
    pub lanes: Vec<Lane>,
    pub first_byte_us: Option<u64>,
    pub errors_permille: u32,
    pub in_flight: u32,
    /// Calls of the last ten seconds.
    pub calls: u32,
    /// The most that this request can cost there.
    pub worst_nano_usd: Option<i64>,
    pub context: Option<u64>,
    pub can_prefill: bool,
    /// Its provider has not had its share of retries yet.
    pub may_retry: bool,
    /// The same of requests that go beside a slow one.
    pub may_hedge: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lane {
    /// Of keys, which have one breaker.
    pub group: String,
    /// Name of the secret; empty without one.
    pub key: String,
    pub state: LaneState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaneState {
    Ready,
    /// The breaker is open. `calls` went this way in the ten seconds before.
    Open {
        until: Timestamp,
        since: Timestamp,
        calls: u32,
    },
    /// Half open, and another request finds out at this moment.
    Probing,
    /// The rate of the key is limited.
    Cooling {
        until: Timestamp,
    },
    /// The key was not accepted.
    Refused {
        until: Timestamp,
    },
}

impl LaneState {
    pub(crate) fn until(self, now: Timestamp) -> Option<Timestamp> {
        match self {
            LaneState::Ready => None,
            LaneState::Open { until, .. } | LaneState::Cooling { until } | LaneState::Refused { until } => Some(until),
            // As long as a request takes; nobody knows.
            LaneState::Probing => Some(now.after(Duration::from_secs(1))),
        }
    }
}

impl Lane {
    pub(crate) fn is_ready_after(&self, now: Timestamp, pause_ms: u64) -> bool {
        match self.state {
            LaneState::Ready => true,
            LaneState::Cooling { until } => until <= now.after(Duration::from_millis(pause_ms)),
            _ => false,
        }
    }
}

impl Candidate {
    /// Names of providers have no slash.
    pub(crate) fn provider(&self) -> &str {
        self.target.split('/').next().unwrap_or_default()
    }
    /// It may be asked at this moment.
    pub(crate) fn is_open_for_business(&self) -> bool {
        self.excluded.is_none() && self.lanes.iter().any(|lane| lane.state == LaneState::Ready)
    }

    /// One of its ready lanes, drawn, so that keys share the load.
    pub(crate) fn ready_lane(&self, seed: u64, allowed: impl Fn(usize, &Lane) -> bool) -> Option<usize> {
        let ready: Vec<usize> = self.indices(|index, lane| lane.state == LaneState::Ready && allowed(index, lane));
        ready.get(draw_below(seed, LANE, ready.len())).copied()
    }

    pub(crate) fn ready_after(&self, now: Timestamp, pause_ms: u64, seed: u64) -> Option<usize> {
        let ready: Vec<usize> = self.indices(|_, lane| lane.is_ready_after(now, pause_ms));
        ready.get(draw_below(seed, LANE, ready.len())).copied()
    }

    fn indices(&self, allowed: impl Fn(usize, &Lane) -> bool) -> Vec<usize> {
        self.lanes.iter().enumerate().filter(|(index, lane)| allowed(*index, lane)).map(|(index, _)| index).collect()
    }
}

/// Purpose of a draw.
const LANE: u64 = 1;

/// Why a target cannot answer a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exclusion {
    Disabled,
    /// A model for chats was asked for embeddings, or the other way round.
    WrongMode,
    Lacks(Capability),
    /// The request names something that lies with a provider of another protocol, or asks for tools that only such a one runs.
    OtherProtocol,
    /// The request is larger than what the model reads, by any count.
    TooLong {
        limit: u64,
    },
    /// The route wants a larger window.
    SmallWindow {
        context: Option<u64>,
    },
    /// A budget pays, and nobody knows the price.
    PriceUnknown,
}

impl fmt::Display for Exclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exclusion::Disabled => f.write_str("it is disabled"),
            Exclusion::WrongMode => f.write_str("it is not a model for this operation"),
            Exclusion::Lacks(capability) => write!(f, "it lacks {}", capability.as_str()),
            Exclusion::OtherProtocol => {
                f.write_str("the request needs something that only providers of its own protocol have")
            }
            Exclusion::TooLong { limit } => write!(f, "the request is larger than its {limit} tokens"),
            Exclusion::SmallWindow { context: Some(context) } => {
                write!(f, "its window of {context} tokens is smaller than the route's `min_context`")
            }
            Exclusion::SmallWindow { context: None } => {
                f.write_str("its window is not known, and the route has a `min_context`")
            }
            Exclusion::PriceUnknown => f.write_str("a budget applies and its price is not known"),
        }
    }
}
