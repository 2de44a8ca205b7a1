//! The engine of model calls: from a request that the monitor has allowed to the answer of some provider, within budgets.
//!
//! Peek ▸ plan ▸ for each attempt: reserve ▸ send ▸ pass through or translate ▸ settle ▸ report. Where client and provider
//! speak one protocol the bytes of both go through untouched but for what [`agentos_wire::splice()`] names. There is no status
//! and no header before the provider's first valid event, so that everything before it can fail over unseen; after it, a
//! failure is an error inside of the stream, and never its clean end.
//!
//! Not here: who may ask for what (the monitor), which target is next (the router), what fits a budget (the ledger), how a
//! protocol is written (the wire).

mod addresses;
mod amounts;
mod answers;
mod attempt;
mod bedrock;
mod call;
mod canonical;
mod continuation;
mod decisions;
mod engine;
mod failing;
mod fates;
mod flights;
mod given;
mod hedge;
mod kept;
mod keys;
mod leaving;
mod place;
mod prepare;
mod probe;
mod pump;
mod recall;
mod reply;
mod route;
mod upstream;

pub use agentos_router::Operation;
pub use call::ModelCall;
pub use decisions::{KeptDecision, count_old_decisions, decision_of, prune_old_decisions};
pub use engine::{Engine, EngineOptions, Policy};
pub use kept::{count_ended_answers, prune_ended_answers};
pub use keys::{Keys, SealedKeys};
pub use place::{ToSign, key_headers, models_url};
pub use reply::{Body, Reply, reply_of};
pub use route::{Course, Routing};
pub use upstream::{Upstream, UpstreamOptions};
