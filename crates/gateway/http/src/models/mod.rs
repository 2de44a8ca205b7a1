//! The edges at which programs speak the protocols of model providers: the gateway's routes below `/v1`, and the listeners
//! inside of sandboxes. Bodies pass as bytes; who asks was proven before, and everything else is the kernel's, behind
//! [`agentos_api::Models`].
//!
//! What goes wrong before the kernel is told in the client's protocol too, so that the official SDKs raise their own classes.

pub(crate) mod answer;
pub(crate) mod door;
pub(crate) mod edge;
pub(crate) mod request;
pub(crate) mod told;
