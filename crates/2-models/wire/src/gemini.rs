//! Google's Gemini, as a provider's protocol only.

pub mod tap;
mod usage;
