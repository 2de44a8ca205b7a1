//! What models cost, how much they read and write, and what they can do.
//!
//! The facts come from a snapshot in the tree (`data/models.json`), with its date, its sources and its hash; an operator's
//! overrides are laid over them. Prices are integers, pico-USD a token, and the cost of a call is rounded up to nano-USD once,
//! at its end. There is no float between a price and a bill.
//!
//! A bill is never guessed: what the snapshot does not price has no price here, and the caller decides what that means. Where
//! one of several prices may hold and nobody knows which, the dearest counts.
//!
//! Not here: budgets (the ledger), which model is asked (the router), tokens (the wire).

mod bill;
mod capabilities;
mod catalog;
mod corrections;
mod facts;
mod family;
mod images;
mod price;
mod source;
mod usd;

pub use bill::{NanoUsd, Terms};
pub use capabilities::{Capabilities, Capability};
pub use catalog::Catalog;
pub use facts::{Mode, ModelFacts};
pub use family::Family;
pub use images::{IMAGE_TOKENS_MAX, image_tokens_max};
pub use price::{Price, Rates};
pub use source::{Snapshot, Source};
pub use usd::PerMillion;
