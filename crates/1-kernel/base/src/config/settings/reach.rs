//! Ways out: the dialer, the tools, the egress of sandboxes.

use crate::config::setting::{Kind, Setting, range, setting};

pub(super) const REACH: &[Setting] = &[
    setting(
        "dialer.private_exceptions",
        "AGENT_OS_DIALER_PRIVATE_EXCEPTIONS",
        Kind::List,
        "",
        "HOST:PORT targets that may lie in private address ranges. Only the operator can open them.",
    ),
    setting(
        "dialer.extra_roots",
        "AGENT_OS_DIALER_EXTRA_ROOTS",
        Kind::List,
        "",
        "PEM files with further certificate authorities for outgoing TLS.",
    ),
    setting(
        "tools.allowed_commands",
        "ALLOWED_COMMANDS",
        Kind::List,
        "",
        "The only command lines that agents may run, as in grants of shell:exec. Not set: manifests decide alone.",
    ),
    setting(
        "dialer.timeout_max_ms",
        "AGENT_OS_DIALER_TIMEOUT_MAX_MS",
        range(100, 600_000),
        "60000",
        "Longest time that a call may ask for.",
    ),
    setting(
        "dialer.response_bytes_max",
        "AGENT_OS_DIALER_RESPONSE_BYTES_MAX",
        range(1_024, 2_097_152),
        "2097152",
        "Largest response body that a call may ask for.",
    ),
    setting(
        "egress.allowed_domains",
        "EGRESS_ALLOWED_DOMAINS",
        Kind::List,
        "",
        "Hosts that agents may reach at all, by calls or by themselves: NAME, or *.NAME. Unset: the manifests decide.",
    ),
];
