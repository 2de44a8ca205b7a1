-- Witnesses: what this node holds of other nodes' logs, and what others hold of its own.

-- Logs of other nodes, registered by the operator.
CREATE TABLE witness_log (
  name TEXT PRIMARY KEY,
  log TEXT NOT NULL,
  -- C2SP vkey; its name is the origin of the log's checkpoints.
  public_key TEXT NOT NULL,
  -- Changes of the key that were followed since: a JSON array of the statements, oldest first.
  rotations TEXT NOT NULL DEFAULT '[]',
  added_by TEXT NOT NULL,
  added_at INTEGER NOT NULL,
  -- The first checkpoint that contradicted what was held, and its error code; both null while none has.
  refused_at INTEGER,
  refused_code TEXT,
  refused_note TEXT,
  refusals INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX witness_log_by_log ON witness_log (log);

-- Their checkpoints as this node has cosigned them. The newest row of a log is what it must continue.
CREATE TABLE witness_checkpoint (
  log TEXT NOT NULL,
  size INTEGER NOT NULL,
  at INTEGER NOT NULL,
  note TEXT NOT NULL,
  PRIMARY KEY (log, size)
) STRICT;

-- Where the checkpoints of this node's own log went, one row a target.
CREATE TABLE witness_target (
  target TEXT PRIMARY KEY,
  size INTEGER NOT NULL,
  at INTEGER NOT NULL,
  -- The tree's right edge at that size: the next proof starts from it.
  frontier BLOB NOT NULL,
  -- With the cosignature of a node.
  note TEXT NOT NULL,
  -- The error code under which the witness refuses the log, while it does.
  refused_code TEXT
) STRICT;
