//! The dialer under attack: hostile names, hostile redirects, hostile servers.
//!
//! Two stages. `Stage` gives names and public addresses to servers on loopback through a connector of its own, so that
//! the filter works unabridged; the tests of exceptions use the real resolver and connector on loopback.

mod limits;
mod redirects;
mod server;
mod ssrf;
mod stage;
mod tls;
mod wire;
