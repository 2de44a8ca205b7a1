//! The dialer: the one library through which the kernel speaks HTTP to the outside. Tools and webhooks use it; the egress
//! proxy of sandboxes takes the part that makes connections ([`Reach`]).
//!
//! Invariants, each of them attacked in `tests`:
//! - a host is resolved once per hop, *every* answer is filtered, and the connection goes to a filtered address itself,
//!   so that a second lookup cannot change the target (DNS rebinding);
//! - a redirect is a new request: parsed, asked of the caller, resolved and filtered again;
//! - credentials do not follow a redirect to another host or port, and nothing goes from https to http;
//! - time, header bytes, body bytes, redirects, lookups and addresses tried are all limited;
//! - no cookie jar, no proxy variables, no connection reuse, no decompression.
//!
//! Not here: grants (the caller's `may_follow` knows them), secrets, retries, audit.
//! What it cannot see: a public address that the provider maps back to this machine, or a network's own NAT64 prefix.

mod dialer;
mod exchange;
pub mod filter;
mod host_port;
mod options;
mod own_address;
mod reach;
mod redirect;
mod request;
mod resolve;
mod tls;
mod url;

#[cfg(test)]
mod tests;

pub use dialer::Dialer;
pub use exchange::Response;
pub use host_port::HostPort;
pub use options::{DialerOptions, RESPONSE_BYTES_CEILING};
pub use reach::{Reach, Reached, Unreached};
pub use request::{Header, Method, Request};
pub use resolve::{Resolve, SystemResolver};
pub use tls::Tls;
pub use url::CheckedUrl;
