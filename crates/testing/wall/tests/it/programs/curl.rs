//! curl has no way out unless a host is allowed.

use crate::programs::world::{each, need, told};

#[test]
fn without_an_allowed_host_there_is_no_way_out() {
    need("curl", "curl");
    each(|world| {
        for (target, expected) in [
            // No name is known, and no address is anywhere but here.
            ("http://example.org/", 6),
            ("http://192.0.2.1/", 7),
            ("http://169.254.169.254/latest/meta-data/", 7),
            ("http://[2001:db8::1]/", 7),
        ] {
            let output = world.command(&[], &["curl", "-sS", "--max-time", "10", target]).output().unwrap();
            assert_eq!(output.status.code(), Some(expected), "{target}: {}", told(&output));
        }
    });
}
