//! Names of features that are not built: setting one refuses the start.

use crate::config::setting::{Setting, reserved};

pub(super) const RESERVED: &[Setting] = &[
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
