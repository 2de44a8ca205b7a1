//! The kit's own parts that others judge by: the provider of models, by official clients and by hand.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod faults;
mod local_model;
mod sdks;
