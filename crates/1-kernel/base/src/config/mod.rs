//! Configuration: default < file < environment < flag, each value with its origin. An unknown key is an error with a
//! suggestion; a reserved key refuses the start.

mod load;
mod models;
mod setting;
mod settings;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::LazyLock, time::Duration};

use agentos_types::{Code, Fault, Result};

pub use load::{Source, load};
pub use setting::{Kind, Setting};
pub use settings::{OTHERS, SETTINGS};

/// Name of the file in the data directory.
pub const FILE_NAME: &str = "agent-os.toml";

/// Where a value came from, for `config show --origin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    File,
    Environment,
    Flag,
}

impl Origin {
    pub fn as_str(self) -> &'static str {
        match self {
            Origin::Default => "default",
            Origin::File => "file",
            Origin::Environment => "environment",
            Origin::Flag => "flag",
        }
    }
}

/// A setting's value after validation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Integer(u64),
    Boolean(bool),
    List(Vec<String>),
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Text(text) => f.write_str(text),
            Value::Integer(number) => write!(f, "{number}"),
            Value::Boolean(flag) => write!(f, "{flag}"),
            Value::List(items) => f.write_str(&items.join(",")),
        }
    }
}

/// What is shown in the place of a secret setting that has a value.
static SECRET_SHOWN: LazyLock<Value> = LazyLock::new(|| Value::Text("[set]".to_owned()));

/// All settings, resolved. Typed getters below are the only readers, so that a key is spelled in one place.
#[derive(Clone)]
pub struct Config {
    values: BTreeMap<&'static str, (Value, Origin)>,
}

impl Config {
    /// Key, value, origin, in the order of the table. Of a secret only whether it is set.
    pub fn entries(&self) -> impl Iterator<Item = (&'static str, &Value, Origin)> {
        SETTINGS.iter().filter_map(|setting| {
            let (value, origin) = self.values.get(setting.key)?;
            let hidden = setting.secret && *value != Value::Text(String::new());
            Some((setting.key, if hidden { &*SECRET_SHOWN } else { value }, *origin))
        })
    }

    /// URL of the Postgres database, if it is to be used instead of the embedded one. Holds a password.
    pub fn database_url(&self) -> Option<&str> {
        Some(self.text("database.url")).filter(|url| !url.is_empty())
    }

    /// URL of the same database for the role that owns the tables. Holds a password.
    pub fn database_admin_url(&self) -> Option<&str> {
        Some(self.text("database.admin_url")).filter(|url| !url.is_empty())
    }

    pub fn gateway_listen(&self) -> Result<SocketAddr> {
        let text = self.text("gateway.listen");
        text.parse().map_err(|_| {
            Fault::new(Code::CONFIG_INVALID_VALUE, format!("gateway.listen is '{text}', not an address"))
                .hint("write IP:PORT, for example 127.0.0.1:18800")
        })
    }

    /// Certificate and key file, when TLS is on.
    pub fn gateway_tls(&self) -> Result<Option<(PathBuf, PathBuf)>> {
        let (certificate, key) = (self.text("gateway.tls_cert_file"), self.text("gateway.tls_key_file"));
        match (certificate.is_empty(), key.is_empty()) {
            (true, true) => Ok(None),
            (false, false) => Ok(Some((certificate.into(), key.into()))),
            _ => Err(Fault::new(
                Code::CONFIG_INVALID_VALUE,
                "gateway.tls_cert_file and gateway.tls_key_file must be set together",
            )
            .hint("set both for TLS, or neither")),
        }
    }

    pub fn gateway_body_bytes_max(&self) -> usize {
        self.size("gateway.body_bytes_max")
    }

    pub fn gateway_connections_max(&self) -> usize {
        self.size("gateway.connections_max")
    }

    pub fn gateway_strangers_per_address_max(&self) -> usize {
        self.size("gateway.strangers_per_address_max")
    }

    pub fn gateway_requests_per_second(&self) -> u64 {
        self.integer("gateway.requests_per_second")
    }

    pub fn gateway_busy_poll(&self) -> Duration {
        Duration::from_micros(self.integer("gateway.busy_poll_us"))
    }

    pub fn gateway_auth_failures_max(&self) -> u64 {
        self.integer("gateway.auth_failures_max")
    }

    pub fn gateway_request_timeout(&self) -> Duration {
        Duration::from_millis(self.integer("gateway.request_timeout_ms"))
    }

    pub fn store_queue_max(&self) -> usize {
        self.size("store.queue_max")
    }

    pub fn store_readers(&self) -> usize {
        self.size("store.readers")
    }

    pub fn tasks_attempts_max(&self) -> i64 {
        i64::try_from(self.integer("tasks.attempts_max")).unwrap_or(i64::MAX)
    }

    pub fn tasks_lease(&self) -> Duration {
        Duration::from_millis(self.integer("tasks.lease_ms"))
    }

    pub fn tasks_cancel_grace(&self) -> Duration {
        Duration::from_millis(self.integer("tasks.cancel_grace_ms"))
    }

    pub fn tasks_queue_max(&self) -> u64 {
        self.integer("tasks.queue_max")
    }

    pub fn schedules_interval_min(&self) -> Duration {
        Duration::from_secs(self.integer("schedules.interval_min_s"))
    }

    pub fn agents_shutdown_grace(&self) -> Duration {
        Duration::from_millis(self.integer("agents.shutdown_grace_ms"))
    }

    /// `native`, `bwrap` or `none`.
    pub fn sandbox_backend(&self) -> &str {
        self.text("sandbox.backend")
    }

    /// Whether an agent whose limits this machine cannot enforce is kept from starting, where its manifest leaves it open.
    pub fn sandbox_is_strict(&self) -> bool {
        match self.text("sandbox.enforcement") {
            "strict" => true,
            "degraded" => false,
            _ => self.enforce_production_hardening(),
        }
    }

    /// Absent: the group that the server was started in.
    pub fn sandbox_cgroup(&self) -> Option<PathBuf> {
        Some(self.text("sandbox.cgroup")).filter(|text| !text.is_empty()).map(PathBuf::from)
    }

    /// `auto`, `required` or `off`.
    pub fn sandbox_apparmor(&self) -> &str {
        match self.values.get("sandbox.require_apparmor") {
            Some((Value::Boolean(true), _)) => "required",
            _ => self.text("sandbox.apparmor"),
        }
    }

    /// `auto` or the name of a driver.
    pub fn sandbox_workspace(&self) -> &str {
        self.text("sandbox.workspace")
    }

    /// Of an agent whose manifest names none.
    pub fn sandbox_disk_bytes_per_second(&self) -> Option<u64> {
        Some(self.integer("sandbox.disk_bytes_per_second")).filter(|speed| *speed > 0)
    }

    /// The table of settings bounds it to what a user number can be.
    pub fn sandbox_first_host_id(&self) -> u32 {
        u32::try_from(self.integer("sandbox.first_host_id")).unwrap_or(u32::MAX)
    }

    pub fn dialer_private_exceptions(&self) -> Vec<String> {
        self.list("dialer.private_exceptions")
    }

    /// The only commands that agents may run, if the operator has set any; an empty list in the file lets them run none.
    pub fn tools_allowed_commands(&self) -> Option<Vec<String>> {
        self.is_set("tools.allowed_commands").then(|| self.list("tools.allowed_commands"))
    }

    pub fn dialer_extra_roots(&self) -> Vec<PathBuf> {
        self.list("dialer.extra_roots").into_iter().map(PathBuf::from).collect()
    }

    pub fn dialer_timeout_max(&self) -> Duration {
        Duration::from_millis(self.integer("dialer.timeout_max_ms"))
    }

    pub fn dialer_response_bytes_max(&self) -> u64 {
        self.integer("dialer.response_bytes_max")
    }

    /// The only hosts that agents may reach, if the operator has set any; an empty list in the file lets them reach none.
    pub fn egress_allowed_domains(&self) -> Option<Vec<String>> {
        self.is_set("egress.allowed_domains").then(|| self.list("egress.allowed_domains"))
    }

    /// Where checkpoints are appended, if anywhere.
    pub fn audit_witness_file(&self) -> Option<PathBuf> {
        Some(self.text("audit.witness_file")).filter(|path| !path.is_empty()).map(PathBuf::from)
    }

    pub fn audit_witness_file_bytes_max(&self) -> u64 {
        self.integer("audit.witness_file_bytes_max")
    }

    pub fn audit_witness_webhooks(&self) -> Vec<String> {
        self.list("audit.witness_webhooks")
    }

    pub fn audit_witness_nodes(&self) -> Vec<String> {
        self.list("audit.witness_nodes")
    }

    pub fn audit_witness_interval(&self) -> Duration {
        Duration::from_secs(self.integer("audit.witness_interval_s"))
    }

    /// Whether a log that a witness contradicts keeps the server from starting.
    pub fn audit_witness_contradiction_refuses(&self) -> bool {
        self.text("audit.witness_contradiction") != "degrade"
    }

    pub fn log_level(&self) -> tracing::level_filters::LevelFilter {
        self.text("log.level").parse().unwrap_or(tracing::level_filters::LevelFilter::INFO)
    }

    pub fn log_format(&self) -> crate::telemetry::LogFormat {
        match self.text("log.format") {
            "json" => crate::telemetry::LogFormat::Json,
            _ => crate::telemetry::LogFormat::Text,
        }
    }

    pub fn log_file_bytes_max(&self) -> u64 {
        self.integer("log.file_bytes_max")
    }

    pub fn log_files_max(&self) -> u64 {
        self.integer("log.files_max")
    }

    /// False where days of the audit log go by the command alone.
    pub fn retention_prunes_audit_log(&self) -> bool {
        self.text("retention.audit_log_prune") == "daily"
    }

    pub fn retention_audit_log(&self) -> Duration {
        Duration::from_secs(self.integer("retention.audit_log_days").saturating_mul(86_400))
    }

    /// Base URL of the collector, if traces are to be exported.
    pub fn otlp_endpoint(&self) -> Option<&str> {
        Some(self.text("telemetry.otlp_endpoint")).filter(|url| !url.is_empty())
    }

    pub fn otlp_protocol(&self) -> &str {
        self.text("telemetry.otlp_protocol")
    }

    /// `NAME=VALUE,…` as it was written. Holds credentials.
    pub fn otlp_headers(&self) -> &str {
        self.text("telemetry.otlp_headers")
    }

    pub fn otlp_timeout(&self) -> Duration {
        Duration::from_millis(self.integer("telemetry.otlp_timeout_ms"))
    }

    pub fn otlp_certificate(&self) -> Option<PathBuf> {
        Some(self.text("telemetry.otlp_certificate")).filter(|path| !path.is_empty()).map(PathBuf::from)
    }

    pub fn trace_sample_ratio(&self) -> f64 {
        self.text("telemetry.sample_ratio").parse().unwrap_or(0.0)
    }

    pub fn trace_service_name(&self) -> &str {
        self.text("telemetry.service_name")
    }

    pub fn trace_resource_attributes(&self) -> Vec<String> {
        self.list("telemetry.resource_attributes")
    }

    pub fn trace_queue_max(&self) -> usize {
        self.size("telemetry.queue_max")
    }

    pub fn trace_batch_max(&self) -> usize {
        self.size("telemetry.batch_max")
    }

    pub fn trace_batch_delay(&self) -> Duration {
        Duration::from_millis(self.integer("telemetry.batch_delay_ms"))
    }

    pub fn trace_propagate_to(&self) -> Vec<String> {
        self.list("telemetry.propagate_to")
    }

    pub fn retention_task_days(&self) -> u64 {
        self.integer("retention.task_days")
    }

    pub fn retention_dead_letter_days(&self) -> u64 {
        self.integer("retention.dead_letter_days")
    }

    pub fn retention_event_days(&self) -> u64 {
        self.integer("retention.event_days")
    }

    pub fn retention_idempotency_days(&self) -> u64 {
        self.integer("retention.idempotency_days")
    }

    pub fn retention_credential_days(&self) -> u64 {
        self.integer("retention.credential_days")
    }

    pub fn retention_package_days(&self) -> u64 {
        self.integer("retention.package_days")
    }

    pub fn retention_hour_utc(&self) -> u64 {
        self.integer("retention.hour_utc")
    }

    pub fn enforce_production_hardening(&self) -> bool {
        self.values.get("hardening.enforce").is_some_and(|(value, _)| *value == Value::Boolean(true))
    }

    /// Whether anything but the default decides.
    fn is_set(&self, key: &str) -> bool {
        self.values.get(key).is_some_and(|(_, origin)| *origin != Origin::Default)
    }

    fn text(&self, key: &str) -> &str {
        match self.values.get(key) {
            Some((Value::Text(text), _)) => text,
            _ => "",
        }
    }

    fn integer(&self, key: &str) -> u64 {
        match self.values.get(key) {
            Some((Value::Integer(number), _)) => *number,
            _ => 0,
        }
    }

    fn size(&self, key: &str) -> usize {
        usize::try_from(self.integer(key)).unwrap_or(usize::MAX)
    }

    fn list(&self, key: &str) -> Vec<String> {
        match self.values.get(key) {
            Some((Value::List(items), _)) => items.clone(),
            _ => Vec::new(),
        }
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.entries().map(|(key, value, _)| (key, value))).finish()
    }
}

#[cfg(test)]
mod tests;
