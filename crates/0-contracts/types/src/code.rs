//! The catalogue of operator-visible errors. One line of the table is the single source of the code's number, its HTTP
//! status, its page under `docs/src/errors/`, and what `agent-os explain` prints.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A stable error code, printed as `AOS-1042`. Numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Code(u16);

/// What the catalogue knows about one code.
#[derive(Debug)]
pub struct CodeEntry {
    pub code: Code,
    pub http_status: u16,
    pub title: &'static str,
    pub cause: &'static str,
    pub remedy: &'static str,
}

macro_rules! codes {
    ($($name:ident = $number:literal, $status:literal, $title:literal, $cause:literal, $remedy:literal;)*) => {
        impl Code {
            $(#[doc = $title] pub const $name: Code = Code($number);)*
        }
        /// All codes in numeric order.
        pub const CATALOGUE: &[CodeEntry] = &[$(CodeEntry {
            code: Code($number), http_status: $status, title: $title, cause: $cause, remedy: $remedy,
        }),*];
    };
}

codes! {
    // 10xx: start and configuration
    INTERNAL = 1000, 500, "Internal error", "A defect of AgentOS or a failure of the machine. The server's log holds the detail under the request id.", "Look up the request id in the log; report a defect with that line. Nothing that was acknowledged is lost.";
    CONFIG_UNKNOWN_KEY = 1001, 400, "Unknown configuration key", "The configuration file names a key that does not exist, often a misspelling.", "Use the suggested key, or list all of them with `agent-os config schema`.";
    CONFIG_INVALID_VALUE = 1002, 400, "Invalid configuration value", "A setting's value has the wrong type or lies outside its range.", "Correct the value at the place that the message names; `agent-os config show --origin` tells which place wins.";
    CONFIG_RESERVED = 1003, 400, "Reserved setting", "The setting belongs to a feature that this version does not have yet. Starting as if it worked would be unsafe.", "Remove the setting, or upgrade to a version whose notes list the feature.";
    CONFIG_UNREADABLE = 1004, 400, "Configuration cannot be read", "The configuration file is missing, not readable, or not valid TOML.", "Fix the file at the line that the message names.";
    NOT_INITIALISED = 1005, 409, "Data directory not initialised", "The data directory has no AgentOS installation in it.", "Run `agent-os init --data-dir DIR` first.";
    ALREADY_INITIALISED = 1006, 409, "Data directory already initialised", "The directory already holds an installation; its keys are never overwritten.", "Use it as it is, or choose an empty directory.";
    FILE_MODE = 1007, 500, "Unsafe file mode", "A file that holds a key or token can be read or written by other users.", "Run `chmod 600` on the file and rotate the key if others may have read it.";
    HARDENING = 1008, 500, "Start refused by a startup check", "One or more startup checks failed; the message lists each.", "Remedy each listed finding; `agent-os doctor` prints the same list.";
    ADDRESS_IN_USE = 1009, 500, "Address in use", "Another program listens on the gateway's port.", "Stop it, or choose another port with `agent-os up --port N`.";
    NOT_RUNNING = 1010, 503, "Server not running", "No server answers for this data directory.", "Start it with `agent-os up --detach`.";
    INVALID_ID = 1011, 400, "Malformed id or name", "The text is not an id or name of the kind that was asked for.", "Copy the id from a listing; names use lower-case letters, digits and dashes.";
    USAGE = 1012, 400, "Wrong usage", "The command line does not fit the command.", "Run the command with `--help`.";
    LAUNCHER_MISSING = 1013, 500, "Launcher not found", "`agent-os-launch` is not beside the `agent-os` executable, so no agent can be started.", "Install both programs into one directory.";

    // 11xx: store
    STORE_LOCKED = 1101, 409, "Data directory in use", "Another server holds the lock of this data directory or of its Postgres database.", "Stop that server with `agent-os down`, or use another directory and database.";
    STORE_UNAVAILABLE = 1102, 503, "Store unavailable", "The database could not be reached, written or read: disk full, read-only, away, or failing.", "Free or repair the disk. Requests are refused until then; nothing acknowledged is lost.";
    STORE_BUSY = 1103, 503, "Store overloaded", "More writes wait than `store.queue_max` allows.", "Retry after the time given; raise `store.queue_max` if it stays.";
    SCHEMA_NEWER = 1104, 409, "Schema is newer than this program", "The database was migrated by a newer release, further than this program can bear.", "Start the release that the message names or a later one. To go back, run `agent-os migrate down --to N` with it, or restore the backup that was made before the upgrade.";
    STORE_CORRUPT = 1105, 500, "Database damaged", "The database reports damage.", "Stop the server and restore the newest verified backup.";
    MIGRATION_CHANGED = 1106, 409, "Applied migration differs", "A migration that was applied has another text in this program, or one is missing below it.", "Use the release that applied it, which `agent-os migrate status` names; released migrations are never edited.";
    SCHEMA_OLDER = 1107, 409, "Schema is older than this program", "The Postgres database lacks migrations of this release, and the server's own role may not change the schema.", "Run `agent-os migrate up`, or start once, with `DATABASE_ADMIN_URL` set to the role that owns the tables.";
    STORE_ROLE = 1108, 403, "Database role unfit", "The role of `DATABASE_URL` owns tables or may change audit records, or it is the admin role.", "Give the server a role of its own that owns nothing, and let the migration grant it its rights.";

    BACKUP_FAILED = 1120, 507, "Backup before a migration failed", "Before a database that holds data is migrated it is backed up; there is too little room, `pg_dump` is missing, or the copy failed. Nothing was changed.", "Remedy what the message names, or take a backup yourself and run `agent-os migrate up --backup-taken`.";

    // 12xx: tasks and schedules
    TASK_NOT_FOUND = 1201, 404, "Task not found", "No task has this id.", "List tasks with `agent-os task list`.";
    TASK_FINAL = 1202, 409, "Task is in a final state", "A completed, failed, canceled or rejected task does not change.", "Submit a new task; a failed one can be redriven with `agent-os task redrive`.";
    IDEMPOTENCY_CONFLICT = 1203, 409, "Idempotency key reused", "The idempotency key was used before with a different request.", "Use a new key for a new request.";
    PAYLOAD_TOO_LARGE = 1204, 413, "Payload too large", "Input or output is larger than the limit that the message names.", "Send a reference instead of the content.";
    LEASE_LOST = 1205, 409, "Lease lost", "The worker no longer holds the task: its lease ran out or another attempt took over.", "Nothing to do; the attempt that holds the lease goes on. Results of the stale one are not recorded.";
    STEP_CONFLICT = 1206, 409, "Step key reused with another request", "The agent used one step key for two different calls, so a recorded result would be wrong.", "Give every call of a task its own step key, the same on each attempt.";
    STEP_IN_DOUBT = 1207, 409, "Step in doubt", "A step that may not be repeated was started and its outcome is unknown after a crash.", "Check at the receiver whether it happened, then `agent-os task retry` or `task cancel`.";
    STEP_LIMIT = 1208, 429, "Too many steps", "The task used more steps than the limit that the message names.", "Look for a loop in the agent; split the work into several tasks.";
    TASK_DEADLINE = 1209, 504, "Task deadline passed", "The task was not finished before its deadline.", "Submit it with a later deadline, or find out with `task show` where the time went.";
    TASK_CRASHED = 1210, 502, "Worker ended while it held the task", "The agent's process crashed, hung or was killed more often than the task's attempts allow.", "Read `agent-os agent logs`; redrive the task when the agent is fixed.";
    SCHEDULE_INVALID = 1211, 400, "Invalid schedule", "The interval, cron expression or time zone is not valid.", "Use at least the minimum interval, five cron fields, and an IANA zone such as Europe/Berlin.";
    SCHEDULE_NOT_FOUND = 1212, 404, "Schedule not found", "No schedule has this id or name.", "List them with `agent-os schedule list`.";
    TASK_NOT_WAITING = 1213, 409, "Task cannot be retried or redriven", "Retry is for tasks that wait for a person; redrive is for failed tasks.", "Look at the state with `agent-os task show`.";
    TASK_CANCELED = 1214, 409, "Task was canceled", "Somebody asked to cancel the task; its calls are refused.", "Nothing to do for the operator; an agent should stop work on the task.";
    QUEUE_FULL = 1215, 429, "Agent's queue is full", "More tasks wait for the agent than `tasks.queue_max` allows.", "Retry later, or raise `tasks.queue_max`.";

    // 13xx: manifests, trust, agents
    MANIFEST_INVALID = 1301, 400, "Invalid manifest", "The manifest breaks a rule of its schema.", "Correct the field that the message names and sign again.";
    SIGNATURE_INVALID = 1302, 403, "Signature does not verify", "The envelope is damaged, was changed after signing, or is not a DSSE envelope of a manifest.", "Sign the manifest again with `agent-os sign`.";
    SIGNER_UNTRUSTED = 1303, 403, "Signer not in the trust root", "The key that signed the manifest is not trusted here (a self-signed manifest looks like this).", "Sign with a key of the trust root, or have its owner add the key.";
    MANIFEST_EXPIRED = 1304, 403, "Manifest expired", "The manifest's `expires_at` has passed.", "Sign a newer version.";
    VERSION_ROLLBACK = 1305, 409, "Version goes back", "A version at or above this one was deployed before with other content.", "Raise the version and sign again.";
    PACKAGE_MISMATCH = 1306, 403, "Package file differs from the manifest", "A file's SHA-256 is not the one that was signed.", "Sign again after changing files; if nobody changed them, treat it as tampering.";
    AGENT_NOT_FOUND = 1307, 404, "Agent not found", "No agent of this name is deployed.", "List agents with `agent-os agent list`.";
    AGENT_STATE = 1308, 409, "Not possible in this state", "The agent's lifecycle does not allow the action in its present state.", "See the lifecycle in the docs; `agent-os agent show` names the state.";
    TRUST_ROOT_INVALID = 1309, 500, "Trust root unusable", "The trust root file is missing, damaged, or its own signature does not verify.", "Restore `trust/root.json` from backup.";
    SIGNING_KEY_UNUSABLE = 1310, 400, "Signing key unusable", "The private key file is missing, unreadable or malformed.", "Name a key made by `agent-os init` with `--key`.";
    PACKAGE_UNREADABLE = 1311, 503, "Package cannot be read", "The machine could not read a file of the package: a failing disk, a missing right, too many open files. Nothing is known about the file.", "Look at the disk and the rights; the agent is started again with back-off. `agent-os agent restart` starts it at once.";

    // 14xx: the monitor's refusals
    NOT_GRANTED = 1401, 403, "Not granted", "No grant of the agent's manifest covers this action on this resource.", "If it is intended, add the grant to the manifest, raise its version, sign and deploy.";
    SYSCALL_UNKNOWN = 1402, 400, "Unknown system call", "The worker asked for a system call that does not exist.", "See the table in the worker protocol.";
    SYSCALL_INVALID = 1403, 400, "Invalid arguments", "The arguments do not fit the system call.", "See the table in the worker protocol.";
    RATE_LIMITED = 1404, 429, "Agent's rate limit reached", "The agent made more system calls in a minute than `limits.calls_per_minute` of its manifest.", "Wait as long as the reply says, or raise the limit in the manifest.";
    AUDIT_UNAVAILABLE = 1405, 503, "Audit record could not be written", "Without a durable audit record nothing is executed.", "Repair the store; calls are refused until then.";
    TASK_UNKNOWN_TO_WORKER = 1406, 409, "Call for a task that the worker does not hold", "A call named a task that was not given to this worker or is over.", "Fix the agent: calls belong to the task that it was handed.";

    // 15xx: workers
    FRAME_TOO_LARGE = 1501, 502, "Frame too large", "The worker sent a frame above the protocol's limit.", "Fix the agent; large content belongs in files or several calls.";
    FRAME_MALFORMED = 1502, 502, "Malformed frame", "The worker sent bytes that are not a frame of the protocol.", "Fix the agent; see the worker protocol. Anything printed must go to stdout or stderr, never to fd 3.";
    PROTOCOL_VERSION = 1503, 502, "Unsupported protocol version", "The worker speaks a version that this server does not.", "Use an SDK of the same major version.";
    PROTOCOL_ORDER = 1504, 502, "Frame out of order", "The worker sent a frame that is not allowed at this point.", "Fix the agent; see the state diagram of the worker protocol.";
    WORKER_SILENT = 1505, 504, "Worker silent", "The worker did not say hello, did not become ready, or did not answer a heartbeat in time.", "Answer pings while working; raise `health.heartbeat_ms` for slow runtimes.";
    LAUNCH_FAILED = 1506, 500, "Agent could not be started", "The launcher could not start the agent's program.", "Read the reason in `agent-os agent show`; check command, file modes and limits.";
    WORKER_EXITED = 1507, 502, "Worker exited", "The agent's process ended by itself or by a signal.", "Read `agent-os agent logs`.";
    AGENT_QUARANTINED = 1508, 409, "Agent quarantined", "The agent failed more often in a row than `health.failures_max`.", "Fix it, then `agent-os agent restart`.";
    WORKER_LIMIT = 1509, 502, "Worker hit a limit", "The agent's process ended at a limit of its manifest: memory, processes, workspace, file size or CPU time.", "The message names the limit; raise it in the manifest, or let the agent use less.";
    WORKER_CALL_REFUSED = 1510, 502, "Worker ended by the system call filter", "The agent's program made a system call of Linux that does not exist in its sandbox, and was ended for it.", "Read `agent-os agent logs`; a debugger or tracer needs `sandbox.profile = \"dev\"` in the manifest.";
    LAUNCHER_LOST = 1511, 502, "Launcher ended", "The program that makes sandboxes ended or hung while it made this one or while this one ran, and the kernel ended everything that it had made. That is no failure of the agent, nor of a task that waits for it.", "The agent starts again by itself. Read why in the server's log (`a launcher has ended`): the machine may be out of memory, or somebody ended the process.";
    LAUNCHER_NOT_READY = 1512, 503, "Launcher does not start", "The program that makes sandboxes could not be started or gave up before it was ready, so no agent of its profile can start. Agents wait and try again; none is blamed.", "Read why in the server's log and in `agent-os doctor`; replace `agent-os-launch` beside `agent-os` if it is damaged.";
    LAUNCHER_ENDANGERED = 1513, 409, "Agent ends its launchers", "The launcher of this agent ended again and again while the agent started or ran, at last one that few others or none shared. An agent must not be able to do this, so it is not started any more.", "Keep its package, report a defect of AgentOS, and look at the server's log for how the launcher ended. If the machine was to blame: `agent-os agent restart`.";
    LIMIT_UNENFORCEABLE = 1520, 503, "Limit cannot be enforced on this machine", "The agent has a limit that needs a control group which the server does not have here, and it must not start without it: `sandbox.enforcement`, or `limits.enforcement` of its manifest, is strict.", "The message names the limit, the reason and the remedy; `agent-os doctor` shows all of them. With `sandbox.enforcement = degraded` the agent starts and is marked.";
    APPARMOR_UNAVAILABLE = 1521, 503, "AppArmor profiles cannot be applied", "`sandbox.apparmor` is required, and this kernel has no AppArmor, a profile of AgentOS is not loaded or not enforced, or the back end does not enter profiles.", "Load the profiles of `deploy/apparmor` as the guide on AppArmor says; with `sandbox.apparmor = auto` they are applied where they can be.";
    SANDBOX_REFUSED = 1530, 400, "Sandbox refused", "What was asked for cannot be had in a sandbox: it would cover a place of its own, or its source is a link, a device, a part of AgentOS, or not there.", "Change what the message names; `docs/src/guides/sandbox-run.md` lists what a sandbox has inside and what can be added.";
    WORKSPACE_LIMIT = 1540, 507, "Workspace above its limit", "The files of the agent's workspace are more than `limits.workspace_bytes` allows, or cannot be measured. Where the kernel cannot hold the limit the agent is stopped when that is noticed.", "Remove files from the workspace, or raise the limit in the manifest. `agent-os doctor` says how the limit is held on this machine.";
    WORKSPACE_UNAVAILABLE = 1541, 500, "Workspace cannot be made", "The directory or disk image of an agent's workspace could not be made, mounted or moved; nothing was lost.", "The server's log names the path and the program that failed; see the guide on disk quotas.";

    // 16xx: tools
    ADDRESS_DENIED = 1601, 403, "Address refused", "The name resolves to a private, loopback, link-local, metadata or otherwise reserved address.", "If the operator intends it, add `HOST:PORT` to `dialer.private_exceptions`; a manifest cannot.";
    NAME_UNRESOLVED = 1602, 502, "Name not resolved", "The host name has no address.", "Check the name and the server's DNS.";
    CONNECT_FAILED = 1603, 502, "Connection failed", "The remote host refused or did not answer the connection, or its TLS certificate is not valid. Nothing was sent.", "Check the remote host; the task is retried with back-off.";
    REMOTE_TIMEOUT = 1604, 504, "Remote host too slow", "The time limit of the request passed.", "Raise `timeout_ms` of the call up to `dialer.timeout_max_ms`.";
    RESPONSE_TOO_LARGE = 1605, 502, "Response too large", "The body is larger than the limit of the call.", "Raise `max_bytes` of the call up to `dialer.response_bytes_max`.";
    REDIRECT_DENIED = 1606, 403, "Redirect refused", "A redirect leads to an address that is not granted, to another scheme, or there are too many.", "Grant the final host, or fetch the final URL directly.";
    URL_INVALID = 1607, 400, "Invalid URL", "The URL is not an absolute http or https URL, or carries credentials.", "Use https://host/path; put credentials into a secret.";
    FILE_DENIED = 1608, 403, "Path refused", "The path leaves its granted root, by `..`, by a symbolic link, or by another mount.", "Grant the real directory.";
    FILE_UNAVAILABLE = 1609, 404, "File unavailable", "The file or directory does not exist, is of another kind, or cannot be read.", "Check the path and the server user's rights.";
    KV_CONFLICT = 1610, 409, "Value changed meanwhile", "`if_version` does not match the stored version.", "Read the value again and decide anew.";
    KV_LIMIT = 1611, 413, "Key or value too large", "A key, a value, or the agent's total is above its limit.", "Store less, or split the value.";
    REMOTE_STATUS = 1612, 502, "Remote host answered with an error", "The receiver of a webhook did not answer with success.", "Check the receiver; delivery is retried with the same idempotency key.";
    RESPONSE_MALFORMED = 1613, 502, "Malformed response", "The remote host's answer is not valid HTTP.", "Check the remote host.";
    CONNECTION_LOST = 1614, 502, "Connection lost", "The connection broke after the request was sent, so it is not known what the remote host did.", "Check the remote host; a request that may be repeated is retried, any other waits for a person.";

    // 17xx: gateway
    UNAUTHENTICATED = 1701, 401, "Authentication required", "The request has no token, or the token is unknown, expired or revoked.", "Send `Authorization: Bearer TOKEN`; create one with `agent-os token create`.";
    FORBIDDEN = 1702, 403, "Token lacks the scope", "The token is valid but does not hold the scope that the route needs, or may not give work to the agent.", "Use a token with that scope, or one that names the agent.";
    BODY_INVALID = 1703, 400, "Request body invalid", "The body is not JSON of the documented shape.", "Compare with `openapi/agent-os.json`.";
    BODY_TOO_LARGE = 1704, 413, "Request body too large", "The body is larger than `gateway.body_bytes_max` or, for calls of models, `models.body_bytes_max`.", "Send less, or raise the setting.";
    GATEWAY_RATE_LIMITED = 1705, 429, "Too many requests", "The token or address sent more requests than `gateway.requests_per_second` allows.", "Retry after the time given.";
    ROUTE_NOT_FOUND = 1706, 404, "No such route", "The path is not part of the API.", "See `openapi/agent-os.json`.";
    METHOD_NOT_ALLOWED = 1707, 405, "Method not allowed", "The path exists but not with this method.", "See `openapi/agent-os.json`.";
    CURSOR_INVALID = 1708, 400, "Invalid cursor or filter", "The cursor was not made by this API, or a filter has an unknown value.", "Start again without a cursor.";
    TOO_MANY_CONNECTIONS = 1709, 503, "Too many connections", "All of `gateway.connections_max` connections are open and held by tokens, or one token holds half of them.", "Close connections that are not needed, retry later, or raise the setting.";
    WS_PROTOCOL = 1710, 400, "WebSocket message refused", "The message is not valid JSON of the documented shape, or came before authentication.", "See the WebSocket chapter of the docs.";
    TOKEN_NOT_FOUND = 1711, 404, "Token not found", "No token has this id.", "List them with `agent-os token list`.";
    SHUTTING_DOWN = 1712, 503, "Server is shutting down", "The server no longer accepts work.", "Retry when it is back.";
    UNSUPPORTED_MEDIA_TYPE = 1713, 415, "Unsupported media type", "The body is not declared as application/json.", "Send `Content-Type: application/json`.";
    REQUEST_TIMEOUT = 1714, 408, "Request too slow", "The request was not complete within `gateway.request_timeout_ms`.", "Send it faster, or raise the setting.";
    AUTH_LOCKED = 1715, 429, "Too many failed authentications", "The address presented more wrong tokens in a minute than `gateway.auth_failures_max` allows. Valid tokens are answered from there all the same.", "Send a valid token, or wait for the time given. `agent-os audit query --action gateway.lockout` lists the addresses.";
    TOKEN_ENDED = 1716, 409, "Token cannot be rotated", "The token is expired, revoked, or was rotated already and its successor lives.", "Rotate the successor, or create a token with `agent-os token create`.";
    REQUEST_MALFORMED = 1717, 400, "Request malformed", "The request is not HTTP/1.1, or can be read in two ways: two lengths, two hosts, a broken header.", "Use an HTTP client that keeps to RFC 9112; look at what proxies in between do.";
    HEAD_TOO_LARGE = 1718, 431, "Request headers too large", "The request line and headers are larger than 16 KiB, or more than 64.", "Send fewer and shorter headers; move long parameters into the body.";

    // 18xx: secrets
    SECRET_NOT_FOUND = 1801, 404, "Secret not found", "No active secret has this name.", "Set it with `agent-os secret set NAME`.";
    SECRET_KEY_UNUSABLE = 1802, 500, "Secrets key unusable", "The key file is missing, has an unsafe mode, or does not open the stored secrets.", "Restore `keys/secrets.key` with mode 600.";
    SECRET_INVALID = 1803, 400, "Secret refused", "The value is too short or too large, or came from somewhere else than standard input.", "Pipe the value into `agent-os secret set NAME`.";

    // 19xx: audit
    AUDIT_TAMPERED = 1901, 409, "Audit log does not verify", "A record was changed, removed, inserted or reordered, or a checkpoint does not match.", "Treat it as an incident: keep the files, compare with exported checkpoints.";
    AUDIT_QUERY_INVALID = 1902, 400, "Invalid audit query", "A filter has an unknown value.", "See `agent-os audit query --help`.";
    AUDIT_KEY_UNUSABLE = 1903, 500, "Audit key unusable", "The log's signing key is missing, has an unsafe mode, or is not the key of this log.", "Restore `keys/audit.key` with mode 600.";
    AUDIT_HOLD_NOT_FOUND = 1911, 404, "Legal hold not found", "No legal hold of this name stands.", "List them with `agent-os audit hold list`.";
    AUDIT_HOLD_INVALID = 1912, 400, "Legal hold refused", "The name or the reason is not as the message says, or a hold of this name stands already.", "Correct it, or release the other hold first.";
    WITNESS_LOG_NOT_FOUND = 1920, 404, "Log is not witnessed here", "No log of this name is registered at this node, or it has shown no checkpoint yet.", "Register it at the witness with `agent-os witness add NAME --public-key KEY`.";
    WITNESS_LOG_INVALID = 1921, 400, "Log cannot be registered", "The public key is not that of a log, the log stands under another name already, or too many logs are registered.", "Take the key from `keys/audit.vkey` of the other node; `agent-os witness list` shows the names.";
    CHECKPOINT_INVALID = 1922, 400, "Checkpoint refused", "The checkpoint is malformed or not signed by the key that is registered for its log.", "A change of the log's key that the old one has signed is followed by itself; any other key has to be registered with `agent-os witness add`.";
    CHECKPOINT_STALE = 1923, 409, "Witness stands elsewhere", "The proof does not start at the size that the witness holds.", "Ask for the held checkpoint and send a proof from its size; a server does so by itself.";
    LOG_FORKED = 1924, 409, "Log was forked or rewritten", "A checkpoint that is held elsewhere states another history than the one that the log has now: two servers went on from one copy, or records were rewritten and signed anew.", "Treat it as an incident: see the runbook `The witness refuses a checkpoint`.";
    LOG_SHRUNK = 1925, 409, "Log is shorter than a checkpoint that is held", "The log ends before a checkpoint that is held elsewhere: an older database was put back, or its end was cut.", "Put the newest database back; after a deliberate restore see the runbook `The witness refuses a checkpoint`.";
    WITNESS_FILE_UNUSABLE = 1926, 500, "Witness file unusable", "The file of `audit.witness_file` cannot be read, written or rotated.", "Make it writable for the server's user, or name another file.";
    CHECKPOINT_PRUNED = 1927, 409, "Held checkpoint lies in the pruned part", "A witness holds a checkpoint of records that were pruned since, so that the log can neither prove nor refute that it continues it. Nobody is accused.", "Compare what the witness holds with the archived segments, then let its operator remove the log and register it anew.";

    // 20xx: budgets
    BUDGET_EXCEEDED = 2001, 402, "Budget exceeded", "What the call could cost at most does not fit into what is left of a budget. Nothing was sent.", "Wait until the budget begins anew, ask for less (a smaller `max_tokens`), or let the operator raise it: `agent-os budget set`.";
    BUDGET_INVALID = 2002, 400, "Invalid budget", "The scope, the period, the unit or the amount of a budget cannot be.", "Write for example `agent-os budget set agent:NAME --per day --usd 5`.";
    BUDGET_NOT_FOUND = 2003, 404, "No such budget", "No budget is set for this scope, period and unit.", "List what is set with `agent-os budget show`.";

    // 201x: choice of a model
    MODELS_INVALID = 2010, 400, "Invalid document of models", "The document of providers and routes cannot be read, or contradicts itself. The one in force stays.", "Correct the fields that the message names; the form is in the guide to models.";
    MODEL_UNKNOWN = 2011, 404, "Unknown model", "No route and no provider has a model of this name.", "List what can be named with `agent-os model list`; a provider's model is `PROVIDER/MODEL`.";
    MODEL_AMBIGUOUS = 2012, 400, "Ambiguous model", "Several providers have a model of this name, and which one is meant decides what it costs.", "Write `PROVIDER/MODEL`, or let the operator define a route of this name.";
    MODEL_DISABLED = 2013, 403, "Model disabled", "The operator has disabled the route, the model or its provider.", "Name another model, or enable it with `agent-os model enable`.";
    MODEL_NOT_CAPABLE = 2014, 400, "Model cannot do this", "Each target lacks something that the request needs. Nothing was sent.", "Name a model that can, let the operator turn emulation on, or correct the capabilities in the document of models.";
    MODEL_INPUT_TOO_LONG = 2015, 400, "Input too long", "The request is larger than the window of each target, by any count of its tokens. Nothing was sent, and nothing is ever cut off.", "Send less, or name a model with a larger window.";
    MODEL_UNAVAILABLE = 2016, 503, "Model unavailable", "Each target that could answer fails, limits its rate, or refuses its key. Nothing was sent.", "Ask again after the time given. `agent-os model list` shows the health of each target, `agent-os model explain` why none is asked.";
    MODELS_CHANGED = 2018, 412, "Document of models changed meanwhile", "The change was made from another revision of the document than the one in force, or names none.", "Read the document again, make the change in it, and send it with its ETag as If-Match.";
    PROVIDER_NOT_FOUND = 2019, 404, "No such provider", "The document of models has no provider of this name.", "List them with `agent-os provider list`.";

    // 203x: calls of models
    MODEL_REQUEST_INVALID = 2031, 400, "Model request refused", "The body is not what its protocol says, or asks for something that the chosen model or its protocol has no place for. Nothing was sent.", "Correct the field that the message names, or choose a model that has what the request needs.";
    MODEL_PROVIDER_FAILED = 2032, 502, "Model provider failed", "No attempt at a provider brought an answer. The class says what the last one failed of.", "Look at `class` and at the provider's own words; `agent-os provider test NAME` says whether it is reached and takes the key, `agent-os model list` how each target is.";
    MODEL_PRICE_UNKNOWN = 2033, 402, "Price unknown under a budget", "A budget applies to the call, and nobody knows what the chosen model costs. Nothing was sent.", "The operator sets the model's price, or a worst case for models without one.";
    MODEL_ANSWER_NOT_KEPT = 2034, 409, "Answer was not kept", "An earlier attempt of the task got this answer, and it was too large for the journal. It is not asked for a second time.", "Ask for something else, or for less; a person can retry the task from its beginning.";
    MODEL_CALL_IN_FLIGHT = 2035, 409, "Request is in flight", "A request with this idempotency key is being answered at this moment.", "Wait as long as the answer says and ask again with the same key.";
    MODEL_STREAM_BROKEN = 2036, 502, "Stream broke off", "The provider's stream ended before its answer was whole. What had come was passed on and is billed.", "Ask again; the answer so far cannot be continued.";
    MODEL_BODIES_FULL = 2040, 503, "No room for another body", "The bodies of all calls of models that are under way have as many bytes as `models.held_bytes_max` allows. Nothing was sent, and nothing is lost.", "Ask again after the time given; raise `models.held_bytes_max` if it stays.";
    MODEL_KEY_REUSED = 2041, 422, "Idempotency key of a model call reused", "The idempotency key was used within the last day with a different request. Nothing was sent.", "Use a new key for a new request.";
    MODEL_DECISION_NOT_KEPT = 2042, 404, "Choice of a call is not kept", "No call with this id has left a record of how its target was chosen: nobody has such a model, its answer came from memory, newer calls took its place, or the document says `decisions = \"drop\"`.", "Look the call up with `agent-os audit query`; `agent-os model explain` shows whom a request would reach now.";
}

impl Code {
    pub fn number(self) -> u16 {
        self.0
    }

    /// The catalogue's entry. Every constructor checks membership, so the fallback to INTERNAL is unreachable.
    pub fn entry(self) -> &'static CodeEntry {
        CATALOGUE.iter().find(|entry| entry.code == self).unwrap_or(&CATALOGUE[0])
    }

    /// Path of the code's page, also the `type` of the problem document.
    pub fn page(self) -> String {
        format!("/errors/{self}")
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AOS-{:04}", self.0)
    }
}

impl FromStr for Code {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("AOS-").or_else(|| text.strip_prefix("aos-")).unwrap_or(text);
        digits
            .parse()
            .ok()
            .and_then(|number: u16| CATALOGUE.iter().find(|entry| entry.code.0 == number))
            .map(|entry| entry.code)
            .ok_or_else(|| format!("'{text}' is not a known error code"))
    }
}

impl TryFrom<String> for Code {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Code> for String {
    fn from(code: Code) -> String {
        code.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn catalogue_is_sorted_unique_and_complete() {
        for pair in CATALOGUE.windows(2) {
            assert!(pair[0].code < pair[1].code, "{} is out of order", pair[1].code);
        }
        for entry in CATALOGUE {
            assert!((400..600).contains(&entry.http_status), "{}", entry.code);
            assert!(
                !entry.title.ends_with('.') && entry.cause.ends_with('.') && entry.remedy.ends_with('.'),
                "{}",
                entry.code
            );
            assert_eq!(entry.code.to_string().parse::<Code>(), Ok(entry.code));
        }
    }
}
