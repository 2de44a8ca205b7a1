//! The one place of names in telemetry: spans, attributes, metrics with their labels, fields of log lines.
//!
//! Pinned conventions: OpenTelemetry semantic conventions 1.41.0, stable for HTTP, errors and services; its GenAI part is
//! "Development", lives in a repository of its own by now, and may be renamed. `SCHEMA_URL` tells receivers which version
//! it is. `OTEL_SEMCONV_STABILITY_OPT_IN` lets instrumentations go on sending an older form until they are told otherwise;
//! this one has no older form, sends the pinned one alone, and does not read that variable.
//!
//! What is ours begins with `agentos.`. Left out on purpose, although the conventions name them: `url.full`, `url.path`,
//! `url.query`, `client.address`, `user_agent.original`, and all content of messages and tools. They hold what callers
//! and agents chose, and webhooks carry their secret in the path.

pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.41.0";
/// The instrumentation scope.
pub const SCOPE: &str = "agent-os";

macro_rules! attributes {
    ($($(#[doc = $about:literal])+ $name:ident = $text:literal;)*) => {
        $($(#[doc = $about])+ pub const $name: &str = $text;)*
        /// Every attribute that a span can carry, with its meaning.
        pub const ATTRIBUTES: &[(&str, &str)] = &[$(($text, concat!($($about),+))),*];
    };
}

attributes! {
    /// Code of the catalogue, class of a failure, or status of a response.
    ERROR_TYPE = "error.type";
    /// Method of the request; `_OTHER` for those that no route has.
    HTTP_REQUEST_METHOD = "http.request.method";
    /// Status of the response.
    HTTP_RESPONSE_STATUS_CODE = "http.response.status_code";
    /// Template of the route, never the path.
    HTTP_ROUTE = "http.route";
    /// `http` or `https`.
    URL_SCHEME = "url.scheme";
    /// Host that was asked.
    SERVER_ADDRESS = "server.address";
    /// Port that was asked.
    SERVER_PORT = "server.port";
    /// `sqlite` or `postgresql`.
    DB_SYSTEM_NAME = "db.system.name";
    /// `invoke_agent` or `execute_tool`.
    GEN_AI_OPERATION_NAME = "gen_ai.operation.name";
    /// Name of the agent.
    GEN_AI_AGENT_NAME = "gen_ai.agent.name";
    /// Name of the system call.
    GEN_AI_TOOL_NAME = "gen_ai.tool.name";
    /// Key of the step.
    GEN_AI_TOOL_CALL_ID = "gen_ai.tool.call.id";
    /// Always `function`.
    GEN_AI_TOOL_TYPE = "gen_ai.tool.type";
    /// Id of the request, as in its response, the audit log and the log lines.
    REQUEST_ID = "agentos.request.id";
    /// Id of the task.
    TASK_ID = "agentos.task.id";
    /// State of the task after what the span tells of.
    TASK_STATE = "agentos.task.state";
    /// Number of the attempt.
    TASK_ATTEMPT = "agentos.task.attempt";
    /// Number of the lease; every write of the attempt names it.
    TASK_FENCE = "agentos.task.fence";
    /// What the monitor decided: `allowed` or `denied`.
    DECISION = "agentos.decision";
    /// Status of the step in the journal: `done`, `failed`, `in-doubt` or `interrupted`.
    STEP_STATUS = "agentos.step.status";
    /// The journal answered, nothing was done.
    STEP_REPLAYED = "agentos.step.replayed";
    /// The crash of the server ended it; its end is the time at which the server was back.
    INTERRUPTED = "agentos.interrupted";
    /// What the commit made durable: `submit`, `claim`, `intent`, `outcome`, `fact` or `finish`.
    COMMIT_OF = "agentos.commit.of";
    /// Operations that shared the commit.
    COMMIT_OPERATIONS = "agentos.commit.operations";
    /// Id of the process's life.
    WORKER_INSTANCE = "agentos.worker.instance";
}

/// Spans with names of their own.
pub mod spans {
    /// Followed by the agent's name: a task was taken in.
    pub const SUBMIT: &str = "submit_task";
    /// Followed by the agent's name: one attempt.
    pub const INVOKE_AGENT: &str = "invoke_agent";
    /// Followed by the name of the system call.
    pub const EXECUTE_TOOL: &str = "execute_tool";
    /// One commit of the store.
    pub const COMMIT: &str = "commit";
    /// Followed by the agent's name: its process was made.
    pub const START_WORKER: &str = "start_worker";
    /// First word of a request whose method is not of ours.
    pub const HTTP: &str = "HTTP";
    /// Every kind of span, with the span above it. A word in capitals stands for what varies.
    pub const ALL: &[(&str, &str)] = &[
        ("METHOD ROUTE", "a request to the gateway; child of the caller's span"),
        ("submit_task AGENT", "a task was taken in; child of the request, root for a schedule"),
        ("invoke_agent AGENT", "one attempt of a task; child of its submission, linked to the attempt before"),
        ("execute_tool SYSCALL", "one system call through the monitor; child of the attempt"),
        ("METHOD", "a request that a tool sent; child of its system call"),
        ("commit", "one commit of the store; child of the first that asked for it, linked to the others"),
        ("start_worker AGENT", "an agent's process was made; a trace of its own"),
    ];
}

/// A family on `/metrics`.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: &'static str,
    pub help: &'static str,
    /// Each label takes its values from a fixed list, from the settings, from what the operator has registered, or
    /// from the names of agents up to [`AGENTS_LABELLED_MAX`] and of budgets up to [`BUDGETS_LABELLED_MAX`].
    pub labels: &'static [&'static str],
}

impl Metric {
    /// The name without the ending that the format of counters adds.
    pub fn stem(&self) -> &'static str {
        self.name.strip_suffix("_total").unwrap_or(self.name)
    }
}

/// Agents with series of their own, in the order of their names. All others together are the agent [`OTHER_AGENTS`].
pub const AGENTS_LABELLED_MAX: usize = 200;
/// No agent can have this name.
pub const OTHER_AGENTS: &str = "_other";

/// Budgets with series of their own, in the order of their scopes. Of all others together the fullest is shown.
pub const BUDGETS_LABELLED_MAX: usize = 200;
/// No budget can have this scope.
pub const OTHER_BUDGETS: &str = "_other";

macro_rules! metrics {
    ($($name:ident = $text:literal $kind:ident [$($label:literal)*] $help:literal;)*) => {
        $(pub const $name: Metric =
            Metric { name: $text, kind: stringify!($kind), help: $help, labels: &[$($label),*] };)*
        /// Every family on the page: the kernel's, then the gateway's.
        pub const METRICS: &[Metric] = &[$($name),*];
    };
}

metrics! {
    TASKS = "agentos_tasks" gauge ["agent" "state"] "Tasks by agent and state.";
    AGENT_STATE = "agentos_agent_state" gauge ["agent" "state"] "Agents of this name in the state.";
    AGENT_RESTARTS = "agentos_agent_restarts_total" counter ["agent"] "Restarts of an agent's process.";
    AGENT_CPU = "agentos_agent_cpu_seconds_total" counter ["agent"] "CPU time of an agent's processes.";
    AGENT_MEMORY = "agentos_agent_memory_bytes" gauge ["agent"] "Memory of an agent's processes.";
    AGENT_PROCESSES = "agentos_agent_processes" gauge ["agent"] "Processes and threads of an agent.";
    AGENT_OOM_KILLS = "agentos_agent_oom_kills_total" counter ["agent"] "Processes of an agent that were killed at its memory limit.";
    AGENT_THROTTLED = "agentos_agent_throttled_seconds_total" counter ["agent"] "Time in which an agent's CPU limit held it up.";
    AGENT_WORKSPACE = "agentos_agent_workspace_bytes" gauge ["agent"] "Files of an agent's workspace.";
    AGENT_DISK_READ = "agentos_agent_disk_read_bytes_total" counter ["agent"] "Bytes that an agent read from disks.";
    AGENT_DISK_WRITTEN = "agentos_agent_disk_written_bytes_total" counter ["agent"] "Bytes that an agent wrote to disks.";
    AGENT_EGRESS_IN = "agentos_agent_egress_in_bytes_total" counter ["agent"] "Bytes that came to an agent through the egress proxy.";
    AGENT_EGRESS_OUT = "agentos_agent_egress_out_bytes_total" counter ["agent"] "Bytes that an agent sent through the egress proxy.";
    AGENT_ENDS = "agentos_agent_ends_total" counter ["reason"] "Ends of agents' processes that nobody had asked for, by reason.";
    EGRESS_DECISIONS = "agentos_egress_decisions_total" counter ["decision"] "Names, connections and requests by what was decided: allowed, denied, or refused by the proxy itself.";
    EGRESS_BYTES = "agentos_egress_bytes_total" counter ["direction"] "Bytes that the egress proxy carried, out of sandboxes and in.";
    EGRESS_OPEN = "agentos_egress_connections" gauge [] "Connections and requests that were allowed and have not ended.";
    EGRESS_SANDBOXES = "agentos_egress_sandboxes" gauge [] "Sandboxes with a way out.";
    EGRESS_RESTARTS = "agentos_egress_proxy_restarts_total" counter [] "Egress proxies that ended or hung and were replaced.";
    EGRESS_UP = "agentos_egress_proxy_up" gauge [] "1 while the egress proxy answers.";
    BUDGETS = "agentos_budgets" gauge [] "Budgets that are set.";
    BUDGET_USED = "agentos_budget_used_ratio" gauge ["scope" "period" "unit"] "Part of a budget that is used in the period that is now; above 1 where a provider reported more than was reserved.";
    SPEND_USD = "agentos_spend_today_usd" gauge [] "Cost of the model calls since midnight UTC.";
    SPEND_TOKENS = "agentos_spend_today_tokens" gauge ["direction"] "Tokens of the model calls since midnight UTC.";
    SPEND_REQUESTS = "agentos_spend_today_requests" gauge ["outcome"] "Model calls since midnight UTC.";
    MODEL_PROBES = "agentos_model_probes_total" counter ["provider" "outcome"] "Lists of models that were asked for because nobody asked the provider or it had failed: answered, failed, or unsupported.";
    MODEL_SHUT = "agentos_model_targets_shut" gauge ["provider"] "Models of the provider with a breaker that is not closed.";
    AUDIT_RECORDS = "agentos_audit_records_total" counter [] "Records in the audit log.";
    WITNESS_RECORDS = "agentos_witness_records" gauge ["target"] "Records of the own log under the newest checkpoint at a witness.";
    WITNESS_FAILURES = "agentos_witness_failures_total" counter ["target"] "Attempts to reach a witness that failed.";
    WITNESS_REFUSES = "agentos_witness_refuses" gauge ["target"] "1 while a witness refuses the own log.";
    WITNESSED_LOG_REFUSED = "agentos_witnessed_log_refused" gauge ["log"] "1 for another node's log that contradicts what is held.";
    RETENTION_ROWS = "agentos_retention_rows_total" counter ["kind"] "Rows that retention took away, by kind.";
    RETENTION_LAST_RUN = "agentos_retention_last_run_timestamp_seconds" gauge [] "End of the last retention run.";
    SCHEMA_VERSION = "agentos_schema_version" gauge [] "Newest applied migration.";
    TRACE_SPANS = "agentos_trace_spans_total" counter ["outcome"] "Spans by what became of them; absent without export.";
    GATEWAY_REQUESTS = "agentos_gateway_requests_total" counter ["route" "method" "status"] "Requests by route, method and class of status.";
    GATEWAY_DURATION = "agentos_gateway_request_duration_seconds" histogram ["route"] "Time until the response's head was ready.";
    GATEWAY_CONNECTIONS = "agentos_gateway_connections" gauge [] "Open connections.";
    GATEWAY_CONNECTIONS_REFUSED = "agentos_gateway_connections_refused_total" counter [] "Connections above gateway.connections_max.";
    GATEWAY_CONNECTIONS_DISPLACED = "agentos_gateway_connections_displaced_total" counter [] "Connections without a valid token that made room for newcomers.";
    GATEWAY_HEADS_REFUSED = "agentos_gateway_heads_refused_total" counter [] "Heads of requests that were malformed, too large or too slow.";
    GATEWAY_WEBSOCKETS = "agentos_gateway_websockets" gauge [] "Open WebSocket sessions.";
    GATEWAY_LOCKOUTS = "agentos_gateway_lockouts_total" counter [] "Addresses locked out after wrong tokens.";
    GATEWAY_REFUSALS_UNRECORDED = "agentos_gateway_refusals_unrecorded_total" counter [] "Refused requests that the bound kept out of the audit log.";
}

/// Fields of every JSON log line, in their order; those after `message` only where there is something to say.
pub const LOG_FIELDS: &[(&str, &str)] = &[
    ("timestamp", "RFC 3339 in UTC"),
    ("level", "ERROR, WARN, INFO, DEBUG or TRACE"),
    ("target", "module that wrote the line"),
    ("message", "what happened"),
    ("code", "error code"),
    ("request_id", "within a request: its id"),
    ("trace_id", "within a request or task: its trace"),
    ("span_id", "within a request or task: the span"),
    ("fields", "object of all that the line says besides"),
];
