//! Traces, in the words of OpenTelemetry where it has some.

use crate::config::setting::{Kind, Setting, range, secret, setting};

pub(super) const TELEMETRY: &[Setting] = &[
    setting(
        "telemetry.otlp_endpoint",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        Kind::Text,
        "",
        "Base URL of an OpenTelemetry collector; traces go to its /v1/traces. Empty: none leave this machine.",
    ),
    setting(
        "telemetry.otlp_protocol",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        Kind::Choice(&["http/protobuf"]),
        "http/protobuf",
        "The one protocol that is spoken; a variable that asks for another refuses the start.",
    ),
    secret(
        "telemetry.otlp_headers",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "Headers for the collector: NAME=VALUE, comma-separated, values percent-encoded. Need https, or loopback.",
    ),
    setting(
        "telemetry.otlp_timeout_ms",
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        range(100, 60_000),
        "10000",
        "Time for one export, from the lookup to the last byte of the answer.",
    ),
    setting(
        "telemetry.otlp_certificate",
        "OTEL_EXPORTER_OTLP_CERTIFICATE",
        Kind::Text,
        "",
        "PEM file with a further certificate authority for the collector.",
    ),
    setting(
        "telemetry.sample_ratio",
        "OTEL_TRACES_SAMPLER_ARG",
        Kind::Ratio,
        "1.0",
        "Share of the traces that begin here which are recorded. A caller's decision stands.",
    ),
    setting(
        "telemetry.service_name",
        "OTEL_SERVICE_NAME",
        Kind::Text,
        "agent-os",
        "Name of this service in its traces.",
    ),
    setting(
        "telemetry.resource_attributes",
        "OTEL_RESOURCE_ATTRIBUTES",
        Kind::List,
        "",
        "NAME=VALUE of what all spans come from, such as deployment.environment.name=production. At most 32.",
    ),
    setting(
        "telemetry.queue_max",
        "OTEL_BSP_MAX_QUEUE_SIZE",
        range(64, 1_000_000),
        "8192",
        "Spans that may wait for their export; more are dropped and counted.",
    ),
    setting("telemetry.batch_max", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", range(1, 4_096), "512", "Spans in one export."),
    setting(
        "telemetry.batch_delay_ms",
        "OTEL_BSP_SCHEDULE_DELAY",
        range(10, 60_000),
        "1000",
        "Longest wait of a span for others to share its export.",
    ),
    setting(
        "telemetry.propagate_to",
        "AGENT_OS_TELEMETRY_PROPAGATE_TO",
        Kind::List,
        "",
        "HOST:PORT targets whose requests carry the header traceparent. All others learn no id of a trace.",
    ),
];
