//! Where state lies, how tasks run, and what surrounds the agents.

use crate::config::setting::{Kind, Setting, range, secret, setting};

pub(super) const WORK: &[Setting] = &[
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
        "sandbox.disk_bytes_per_second",
        "AGENT_OS_SANDBOX_DISK_BYTES_PER_SECOND",
        range(0, 1 << 40),
        "33554432",
        "Speed of the disk, each direction, of an agent whose manifest names none, where this machine can enforce one: the \
         server's own commits wait behind a disk that an agent keeps busy. 0: no bound.",
    ),
    setting(
        "sandbox.first_host_id",
        "AGENT_OS_SANDBOX_FIRST_HOST_ID",
        range(10_000, 2_147_400_000),
        "1879048192",
        "As root: user number of the first agent on the host; each agent has one of its own, counted from here. Servers that \
         share a machine need ranges of 10,000 that do not meet.",
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
];
