//! How many files the server may hold open, and who gets them. Anybody can hold connections open without a token; the
//! store, the log and the agents must still be able to open what they need.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Kept from the gateway: readers and log of the store, a socket, two pipes and a handle for each agent, outgoing requests.
const RESERVED: usize = 512;

/// Raises the limit of this process to what the system allows it, and returns the limit. Distributions start services
/// with 1,024 for programs that cannot count further; ours can. Agents get the limit of their manifest.
pub fn raise() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Refused by some containers; the limit then stays as it is.
    let current = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    current.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX)
}

/// Connections that the gateway may have under this limit: those asked for, or fewer, but half of the limit always.
pub fn for_connections(limit: usize, wanted: usize) -> usize {
    wanted.min(limit.saturating_sub(RESERVED).max(limit / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_never_take_the_last_descriptor() {
        for (limit, wanted, expected) in [
            (20_000, 1_024, 1_024),
            (1_536, 1_024, 1_024),
            (1_024, 1_024, 512),
            (100, 1_024, 50),
            (100, 10, 10),
            (usize::MAX, 100_000, 100_000),
        ] {
            assert_eq!(for_connections(limit, wanted), expected, "{limit} descriptors, {wanted} connections");
        }
    }

    #[test]
    fn the_limit_is_raised_to_what_is_allowed() {
        let limit = raise();
        let now = getrlimit(Resource::Nofile);
        assert_eq!(now.current, now.maximum);
        assert_eq!(now.current.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX), limit);
    }
}
