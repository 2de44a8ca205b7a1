//! Anthropic's Messages: as a client's protocol and as a provider's.

pub mod tap;
mod usage;
