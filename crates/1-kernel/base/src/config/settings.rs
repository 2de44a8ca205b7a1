//! The table of settings. One row is the single source for parsing, validation, `config schema`, the reference page and
//! `.env.example`.

/// Type and range of a setting.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Text,
    Choice(&'static [&'static str]),
    Boolean,
    Integer {
        min: u64,
        max: u64,
    },
    /// A decimal number from 0 to 1.
    Ratio,
    /// Comma-separated in the environment and in flags, an array in the file.
    List,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// `section.name` in the file.
    pub key: &'static str,
    /// Environment variable.
    pub env: &'static str,
    pub kind: Kind,
    pub default: &'static str,
    pub about: &'static str,
    /// The feature is not built yet: setting it refuses the start.
    pub reserved: bool,
    /// Never shown, and not taken from the command line, which every user of the machine can read.
    pub secret: bool,
}

const fn setting(
    key: &'static str,
    env: &'static str,
    kind: Kind,
    default: &'static str,
    about: &'static str,
) -> Setting {
    Setting { key, env, kind, default, about, reserved: false, secret: false }
}

const fn reserved(key: &'static str, env: &'static str, about: &'static str) -> Setting {
    Setting { key, env, kind: Kind::Text, default: "", about, reserved: true, secret: false }
}

const fn secret(key: &'static str, env: &'static str, about: &'static str) -> Setting {
    Setting { key, env, kind: Kind::Text, default: "", about, reserved: false, secret: true }
}

const fn range(min: u64, max: u64) -> Kind {
    Kind::Integer { min, max }
}

/// Variables of the programs that are not settings of the server.
pub const OTHERS: &[(&str, &str)] = &[
    ("AGENT_OS_HOME", "Data directory for every command that is given no --data-dir."),
    ("AGENT_OS_URL", "Server that the commands talk to; without it they use the one of the data directory."),
    ("AGENT_OS_TOKEN", "Token that the commands present; without it they use the one of the data directory."),
];

pub const SETTINGS: &[Setting] = &[
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
        "models.body_bytes_max",
        "AGENT_OS_MODELS_BODY_BYTES_MAX",
        range(1_024, 134_217_728),
        "33554432",
        "Largest body of a call of a model in bytes, on the gateway and inside of sandboxes.",
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
        "store.queue_max",
        "AGENT_OS_STORE_QUEUE_MAX",
        range(16, 1_000_000),
        "8192",
        "Writes that may wait for the writer; more are answered 503.",
    ),
    setting(
        "store.readers",
        "AGENT_OS_STORE_READERS",
        range(1, 64),
        "4",
        "Connections of the reader pool. On Postgres one more is the writer's.",
    ),
    setting(
        "tasks.attempts_max",
        "AGENT_OS_TASKS_ATTEMPTS_MAX",
        range(1, 100),
        "5",
        "Attempts of a task that names no number itself.",
    ),
    setting(
        "tasks.lease_ms",
        "AGENT_OS_TASKS_LEASE_MS",
        range(500, 600_000),
        "15000",
        "A worker's hold on a task; renewed three times as often.",
    ),
    setting(
        "tasks.cancel_grace_ms",
        "AGENT_OS_TASKS_CANCEL_GRACE_MS",
        range(0, 600_000),
        "5000",
        "Time between the request to cancel and the kill.",
    ),
    setting(
        "tasks.queue_max",
        "AGENT_OS_TASKS_QUEUE_MAX",
        range(1, 10_000_000),
        "100000",
        "Tasks that may wait for one agent.",
    ),
    setting(
        "schedules.interval_min_s",
        "AGENT_OS_SCHEDULES_INTERVAL_MIN_S",
        range(1, 86_400),
        "1",
        "Shortest interval of a schedule.",
    ),
    setting(
        "agents.shutdown_grace_ms",
        "AGENT_OS_AGENTS_SHUTDOWN_GRACE_MS",
        range(0, 600_000),
        "2000",
        "Time that a worker gets to exit before it is killed.",
    ),
    setting(
        "sandbox.backend",
        "AGENT_OS_SANDBOX_BACKEND",
        Kind::Choice(&["native", "bwrap", "none"]),
        "native",
        "Who makes the walls of agents: the launcher itself, bwrap, or nobody. `none` is for development alone.",
    ),
    setting(
        "sandbox.enforcement",
        "AGENT_OS_SANDBOX_ENFORCEMENT",
        Kind::Choice(&["", "strict", "degraded"]),
        "",
        "An agent whose limits this machine cannot enforce does not start (strict), or starts and is shown as degraded. \
         Empty: strict under hardening, else degraded.",
    ),
    setting(
        "sandbox.cgroup",
        "AGENT_OS_SANDBOX_CGROUP",
        Kind::Text,
        "",
        "Directory of the cgroup (version 2) below which the groups of agents are made, delegated to the server's user. Empty: \
         the group that the server was started in.",
    ),
    setting(
        "sandbox.apparmor",
        "AGENT_OS_SANDBOX_APPARMOR",
        Kind::Choice(&["auto", "required", "off"]),
        "auto",
        "Agents and the egress proxy start in AppArmor profiles where the kernel has it and they are loaded (auto), always or \
         not at all (required), or never (off).",
    ),
    setting(
        "sandbox.require_apparmor",
        "AGENT_WORKER_REQUIRE_APPARMOR",
        Kind::Boolean,
        "false",
        "The same as `sandbox.apparmor = required`, whatever that says.",
    ),
    setting(
        "sandbox.workspace",
        "AGENT_OS_SANDBOX_WORKSPACE",
        Kind::Choice(&["auto", "project", "image", "tmpfs", "watchdog"]),
        "auto",
        "How the size of workspaces is bounded: the best that this machine has, or the one named or none.",
    ),
    setting(
        "sandbox.first_host_id",
        "AGENT_OS_SANDBOX_FIRST_HOST_ID",
        range(10_000, 2_147_400_000),
        "1879048192",
        "As root: user number of the first agent on the host; each agent has one of its own, counted from here. Servers that \
         share a machine need ranges of 10,000 that do not meet.",
    ),
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
    setting(
        "audit.witness_file",
        "AGENT_OS_AUDIT_WITNESS_FILE",
        Kind::Text,
        "",
        "Append-only file that receives the audit log's checkpoints; best on another disk. Relative to the data directory.",
    ),
    setting(
        "audit.witness_file_bytes_max",
        "AGENT_OS_AUDIT_WITNESS_FILE_BYTES_MAX",
        range(4_096, 67_108_864),
        "16777216",
        "Size at which the witness file is rotated; nine older ones are kept as FILE.1 to FILE.9.",
    ),
    setting(
        "audit.witness_webhooks",
        "AGENT_OS_AUDIT_WITNESS_WEBHOOKS",
        Kind::List,
        "",
        "Receivers of checkpoints as signed webhooks, each `URL SECRET`: the secret signs. At most 8.",
    ),
    setting(
        "audit.witness_nodes",
        "AGENT_OS_AUDIT_WITNESS_NODES",
        Kind::List,
        "",
        "AgentOS nodes that witness this log, each `URL SECRET KEY`: the secret is a token there, the key is its witness key. At most 8.",
    ),
    setting(
        "audit.witness_interval_s",
        "AGENT_OS_AUDIT_WITNESS_INTERVAL_S",
        range(1, 86_400),
        "60",
        "Seconds between two checkpoints for witnesses; nothing is sent while the log does not grow.",
    ),
    setting(
        "audit.witness_contradiction",
        "AGENT_OS_AUDIT_WITNESS_CONTRADICTION",
        Kind::Choice(&["refuse", "degrade"]),
        "refuse",
        "A log that a witness contradicts at the start refuses it, or is recorded and shown while the server goes on.",
    ),
    setting(
        "log.level",
        "AGENT_OS_LOG_LEVEL",
        Kind::Choice(&["error", "warn", "info", "debug", "trace"]),
        "info",
        "Least severe level that is logged.",
    ),
    setting(
        "log.format",
        "AGENT_OS_LOG_FORMAT",
        Kind::Choice(&["text", "json"]),
        "text",
        "Shape of the log lines on standard error.",
    ),
    setting(
        "hardening.enforce",
        "ENFORCE_PRODUCTION_HARDENING",
        Kind::Boolean,
        "false",
        "Refuse to start unless every startup check passes.",
    ),
    setting(
        "retention.task_days",
        "TASK_RETENTION_DAYS",
        range(0, 36_500),
        "30",
        "Days that completed, canceled and rejected tasks are kept with their steps; 0 is for ever.",
    ),
    setting(
        "retention.dead_letter_days",
        "DEAD_LETTER_RETENTION_DAYS",
        range(0, 36_500),
        "90",
        "Days that failed tasks are kept and can be redriven; 0 is for ever.",
    ),
    setting(
        "retention.event_days",
        "EVENT_RETENTION_DAYS",
        range(0, 36_500),
        "30",
        "Days that notifications and the events of finished tasks are kept; 0 is for ever.",
    ),
    setting(
        "retention.idempotency_days",
        "IDEMPOTENCY_RETENTION_DAYS",
        range(0, 36_500),
        "7",
        "Days that an idempotency key is promised, and holds its task for; 0 is for ever.",
    ),
    setting(
        "retention.credential_days",
        "CREDENTIAL_RETENTION_DAYS",
        range(0, 36_500),
        "365",
        "Days that ended tokens and replaced versions of secrets stay listed; 0 is for ever.",
    ),
    setting(
        "retention.hour_utc",
        "AGENT_OS_RETENTION_HOUR_UTC",
        range(0, 23),
        "3",
        "Hour of the day, in UTC, in which the daily retention run begins.",
    ),
    secret(
        "database.url",
        "DATABASE_URL",
        "Postgres instead of the embedded store: postgres://ROLE:PASSWORD@HOST/DATABASE. The role owns nothing.",
    ),
    secret(
        "database.admin_url",
        "DATABASE_ADMIN_URL",
        "The same database as the role that owns the tables; needed only when the schema has to change.",
    ),
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
    setting(
        "retention.audit_log_days",
        "AUDIT_LOG_RETENTION_DAYS",
        range(1, 36_500),
        "365",
        "Days that the audit log is kept before it is pruned, whole days at a time.",
    ),
    setting(
        "retention.audit_log_prune",
        "AUDIT_LOG_PRUNE",
        Kind::Choice(&["daily", "by-hand"]),
        "daily",
        "Whether the daily run prunes the audit log, or only agent-os audit prune does, which can archive first.",
    ),
    reserved("retention.memory_episodic_days", "MEMORY_EPISODIC_RETENTION_DAYS", "Lifetime of episodic memories."),
    reserved("retention.memory_semantic_days", "MEMORY_SEMANTIC_RETENTION_DAYS", "Lifetime of semantic memories."),
    reserved("retention.memory_procedural_days", "MEMORY_PROCEDURAL_RETENTION_DAYS", "Life of procedural memories."),
    reserved("retention.memory_archive_days", "MEMORY_ARCHIVE_RETENTION_DAYS", "Lifetime of rows in memory_archives."),
    reserved("memory.archive_enabled", "MEMORY_ARCHIVE_ENABLED", "Move expired memories to memory_archives."),
    reserved("memory.encryption_enabled", "MEMORY_ENCRYPTION_ENABLED", "Encrypt memories with keys derived per agent."),
    reserved("privacy.pii_redaction_enabled", "PII_REDACTION_ENABLED", "Redact personal data in logs."),
    reserved("memory.qdrant_url", "QDRANT_URL", "Qdrant for large shared memory scopes."),
    reserved("cluster.redis_url", "REDIS_URL", "Redis for fan-out between nodes."),
    reserved("budget.default_usd", "AGENT_BUDGET_DEFAULT_USD", "Cost cap of an agent whose manifest names none."),
    reserved("backup.directory", "BACKUP_DIRECTORY", "Target of the daily backup."),
];
