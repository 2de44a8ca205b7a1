-- The first schema: tasks and their journal, schedules, agents, audit log, secrets, tokens, values of agents.
--
-- One text serves both dialects. Written in SQLite's strict types; on Postgres the words INTEGER, BLOB and STRICT read
-- BIGINT, BYTEA and nothing. Times are microseconds since the epoch. A payload is a pair: NAME_key (0 = plain) and NAME.

CREATE TABLE installation (
  name TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT;

CREATE TABLE agent (
  name TEXT PRIMARY KEY,
  version TEXT NOT NULL,
  manifest_sha256 TEXT NOT NULL,
  signed_by TEXT NOT NULL,
  state TEXT NOT NULL,
  -- What the operator wants, whatever the present state: running, paused or terminated.
  desired TEXT NOT NULL,
  reason TEXT,
  instance TEXT,
  pid INTEGER,
  restarts INTEGER NOT NULL DEFAULT 0,
  cpu_ms INTEGER NOT NULL DEFAULT 0,
  memory_peak_bytes INTEGER NOT NULL DEFAULT 0,
  disk_read_bytes INTEGER NOT NULL DEFAULT 0,
  disk_write_bytes INTEGER NOT NULL DEFAULT 0,
  deployed_at INTEGER NOT NULL,
  state_since INTEGER NOT NULL
) STRICT;

CREATE TABLE agent_version (
  agent TEXT NOT NULL,
  version TEXT NOT NULL,
  manifest_sha256 TEXT NOT NULL,
  signed_by TEXT NOT NULL,
  -- The DSSE envelope exactly as it was deployed.
  envelope BLOB NOT NULL,
  deployed_by TEXT NOT NULL,
  deployed_at INTEGER NOT NULL,
  PRIMARY KEY (agent, version)
) STRICT;

CREATE TABLE task (
  id TEXT PRIMARY KEY,
  agent TEXT NOT NULL,
  state TEXT NOT NULL,
  input_key INTEGER NOT NULL,
  input BLOB NOT NULL,
  output_key INTEGER,
  output BLOB,
  failure_class TEXT,
  failure_code TEXT,
  failure_message TEXT,
  failure_retry_after_s INTEGER,
  attempt INTEGER NOT NULL DEFAULT 0,
  attempts_max INTEGER NOT NULL,
  submitted_by TEXT NOT NULL,
  submitted_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  run_at INTEGER NOT NULL,
  deadline_at INTEGER,
  cancel_asked_at INTEGER,
  -- Who chose the idempotency key, the key, and the hash of the request that used it first.
  idem_scope TEXT,
  idem_key TEXT,
  idem_hash TEXT,
  schedule TEXT,
  traceparent TEXT NOT NULL,
  lease_node TEXT,
  lease_until INTEGER,
  -- Rises with every lease; every write of a worker must name the present one.
  fence INTEGER NOT NULL DEFAULT 0,
  -- The fence at the last change of the input: steps up to it may have asked for something else.
  input_fence INTEGER NOT NULL DEFAULT 0,
  event_seq INTEGER NOT NULL DEFAULT 0,
  step_seq INTEGER NOT NULL DEFAULT 0,
  redrives INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE UNIQUE INDEX task_by_idempotency ON task (idem_scope, idem_key) WHERE idem_key IS NOT NULL;
-- The partial indexes name the state as a column too: without statistics a planner else prefers task_by_state, and would
-- walk the whole backlog for each look of the sweeper.
CREATE INDEX task_ready ON task (agent, state, run_at, id) WHERE state = 'submitted';
CREATE INDEX task_waiting_until ON task (state, run_at, agent) WHERE state = 'submitted';
CREATE INDEX task_leased ON task (state, lease_until) WHERE state = 'working';
CREATE INDEX task_deadline ON task (state, deadline_at) WHERE deadline_at IS NOT NULL;
CREATE INDEX task_by_agent ON task (agent, id);
CREATE INDEX task_by_state ON task (state, id);
CREATE INDEX task_by_submitter ON task (submitted_by, id);

CREATE TABLE step (
  task TEXT NOT NULL,
  key TEXT NOT NULL,
  seq INTEGER NOT NULL,
  syscall TEXT NOT NULL,
  -- started, done or failed.
  status TEXT NOT NULL,
  safety TEXT NOT NULL,
  request_hash TEXT NOT NULL,
  result_key INTEGER,
  result BLOB,
  fence INTEGER NOT NULL,
  traceparent TEXT NOT NULL,
  started_at INTEGER NOT NULL,
  finished_at INTEGER,
  PRIMARY KEY (task, key)
) STRICT;

CREATE TABLE task_event (
  task TEXT NOT NULL,
  seq INTEGER NOT NULL,
  at INTEGER NOT NULL,
  kind TEXT NOT NULL,
  data_key INTEGER NOT NULL,
  data BLOB NOT NULL,
  PRIMARY KEY (task, seq)
) STRICT;

CREATE TABLE schedule (
  id TEXT PRIMARY KEY,
  agent TEXT NOT NULL,
  name TEXT NOT NULL,
  -- JSON of the cadence; not a payload, it holds no user data.
  cadence TEXT NOT NULL,
  input_key INTEGER NOT NULL,
  input BLOB NOT NULL,
  -- 0 = active, 1 = paused by somebody, 2 = paused because the agent was terminated.
  paused INTEGER NOT NULL DEFAULT 0,
  created_by TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  next_at INTEGER NOT NULL,
  last_at INTEGER,
  fired INTEGER NOT NULL DEFAULT 0,
  UNIQUE (agent, name)
) STRICT;

CREATE INDEX schedule_due ON schedule (next_at, id) WHERE paused = 0;

-- One row a firing: the key makes a double fire impossible, also for two leaders.
CREATE TABLE schedule_fire (
  schedule TEXT NOT NULL,
  fire_at INTEGER NOT NULL,
  task TEXT NOT NULL,
  PRIMARY KEY (schedule, fire_at)
) STRICT;

CREATE TABLE audit_record (
  log TEXT NOT NULL,
  seq INTEGER NOT NULL,
  at INTEGER NOT NULL,
  actor TEXT NOT NULL,
  action TEXT NOT NULL,
  resource TEXT NOT NULL,
  phase TEXT NOT NULL,
  decision TEXT NOT NULL,
  task TEXT,
  correlation TEXT,
  -- The canonical leaf; everything else in the row is an index over it.
  body BLOB NOT NULL,
  prev_hash BLOB NOT NULL,
  leaf_hash BLOB NOT NULL,
  PRIMARY KEY (log, seq)
) STRICT;

CREATE INDEX audit_by_task ON audit_record (task, seq) WHERE task IS NOT NULL;
CREATE INDEX audit_by_action ON audit_record (action, seq);

CREATE TABLE audit_checkpoint (
  log TEXT NOT NULL,
  size INTEGER NOT NULL,
  at INTEGER NOT NULL,
  -- Signed note in C2SP checkpoint form.
  note TEXT NOT NULL,
  PRIMARY KEY (log, size)
) STRICT;

-- The right edge of each log's tree: what an append needs to know.
CREATE TABLE audit_frontier (
  log TEXT PRIMARY KEY,
  size INTEGER NOT NULL,
  frontier BLOB NOT NULL,
  last_leaf BLOB NOT NULL
) STRICT;

CREATE TABLE secret (
  name TEXT NOT NULL,
  version INTEGER NOT NULL,
  -- active, retiring (old value after a rotation) or revoked (sealed bytes erased).
  state TEXT NOT NULL,
  key_id INTEGER NOT NULL,
  sealed BLOB NOT NULL,
  created_by TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  PRIMARY KEY (name, version)
) STRICT;

CREATE TABLE token (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  -- SHA-256 of the token; the token itself is shown once and never stored.
  hash BLOB NOT NULL UNIQUE,
  -- The role it was made with, if any; what it may do are its scopes alone.
  role TEXT,
  scopes TEXT NOT NULL,
  -- Agents that it may give work to; only for the scope call.
  agents TEXT NOT NULL,
  -- First token of the line of rotations: whose tasks are its own.
  family TEXT NOT NULL,
  created_by TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER,
  revoked_at INTEGER
) STRICT;

CREATE INDEX token_by_family ON token (family);

CREATE TABLE kv (
  agent TEXT NOT NULL,
  key TEXT NOT NULL,
  version INTEGER NOT NULL,
  value_key INTEGER NOT NULL,
  value BLOB NOT NULL,
  updated_at INTEGER NOT NULL,
  PRIMARY KEY (agent, key)
) STRICT;

-- What agents publish with notify.event.
CREATE TABLE notification (
  id TEXT PRIMARY KEY,
  agent TEXT NOT NULL,
  task TEXT NOT NULL,
  at INTEGER NOT NULL,
  kind TEXT NOT NULL,
  dedupe_key TEXT,
  data_key INTEGER NOT NULL,
  data BLOB NOT NULL
) STRICT;

CREATE UNIQUE INDEX notification_once ON notification (agent, dedupe_key) WHERE dedupe_key IS NOT NULL;
CREATE INDEX notification_by_agent ON notification (agent, id);
