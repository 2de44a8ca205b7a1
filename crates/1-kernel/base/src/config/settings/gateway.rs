//! The door: where the gateway listens, and what it bears.

use crate::config::setting::{Kind, Setting, range, setting};

pub(super) const GATEWAY: &[Setting] = &[
    setting(
        "gateway.listen",
        "AGENT_OS_GATEWAY_LISTEN",
        Kind::Text,
        "127.0.0.1:18800",
        "Address of the gateway. Anything but loopback needs TLS.",
    ),
    setting(
        "gateway.tls_cert_file",
        "AGENT_OS_GATEWAY_TLS_CERT_FILE",
        Kind::Text,
        "",
        "PEM certificate chain; turns TLS on together with the key file.",
    ),
    setting("gateway.tls_key_file", "AGENT_OS_GATEWAY_TLS_KEY_FILE", Kind::Text, "", "PEM private key, mode 0600."),
    setting(
        "gateway.body_bytes_max",
        "AGENT_OS_GATEWAY_BODY_BYTES_MAX",
        range(1_024, 16_777_216),
        "2097152",
        "Largest request body in bytes, but for calls of models.",
    ),
    setting(
        "gateway.connections_max",
        "AGENT_OS_GATEWAY_CONNECTIONS_MAX",
        range(1, 100_000),
        "1024",
        "Open connections. Strangers make room for newcomers; once tokens hold all, more are answered 503.",
    ),
    setting(
        "gateway.strangers_per_address_max",
        "AGENT_OS_GATEWAY_STRANGERS_PER_ADDRESS_MAX",
        range(1, 100_000),
        "128",
        "Open connections of one address without a valid token; one more closes the oldest of them.",
    ),
    setting(
        "gateway.requests_per_second",
        "AGENT_OS_GATEWAY_REQUESTS_PER_SECOND",
        range(1, 1_000_000),
        "500",
        "Requests and WebSocket messages a second for one token or, without a token, one address.",
    ),
    setting(
        "gateway.auth_failures_max",
        "AGENT_OS_GATEWAY_AUTH_FAILURES_MAX",
        range(1, 1_000_000),
        "20",
        "Wrong tokens of one address in a minute; more lock the address out, but not valid tokens.",
    ),
    setting(
        "gateway.request_timeout_ms",
        "AGENT_OS_GATEWAY_REQUEST_TIMEOUT_MS",
        range(100, 600_000),
        "10000",
        "Time for a client to send its headers and body.",
    ),
    setting(
        "gateway.busy_poll_us",
        "AGENT_OS_GATEWAY_BUSY_POLL_US",
        range(0, 1_000),
        "100",
        "Time for which a thread of connections looks for what comes next before it sleeps, if its last waits were as short; 0: never.",
    ),
];
