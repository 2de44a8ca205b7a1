-- Answers of models that are given again, and how their targets were chosen.

-- 'key': under a client's idempotency key; 'cache': of the exact cache of an agent or a token.
CREATE TABLE model_answer (
  kind TEXT NOT NULL,
  -- 'agent:NAME' or 'token:ID': nobody else is ever given it.
  owner TEXT NOT NULL,
  -- SHA-256 of the key, or of everything that the answer depends on.
  id TEXT NOT NULL,
  request_sha256 TEXT NOT NULL,
  status INTEGER NOT NULL,
  content_type TEXT NOT NULL,
  -- PROVIDER/MODEL that wrote it.
  target TEXT,
  answer_key INTEGER NOT NULL,
  answer BLOB NOT NULL,
  -- Of the row, for the bound of its owner.
  bytes INTEGER NOT NULL,
  at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  PRIMARY KEY (kind, owner, id)
) STRICT;
CREATE INDEX model_answer_by_age ON model_answer (kind, owner, at);
CREATE INDEX model_answer_by_end ON model_answer (expires_at);

-- The sum of an owner's rows, so that a bound costs no count of them.
CREATE TABLE model_answer_use (
  kind TEXT NOT NULL,
  owner TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  PRIMARY KEY (kind, owner)
) STRICT;

-- A ring for each node: the newest takes the place of the oldest.
CREATE TABLE model_decision (
  node TEXT NOT NULL,
  slot INTEGER NOT NULL,
  request_id TEXT NOT NULL,
  at INTEGER NOT NULL,
  record_key INTEGER NOT NULL,
  record BLOB NOT NULL,
  PRIMARY KEY (node, slot)
) STRICT;
CREATE INDEX model_decision_by_request ON model_decision (request_id);
CREATE INDEX model_decision_by_age ON model_decision (at);

-- Requests that a cache answered.
ALTER TABLE model_spend ADD COLUMN cached INTEGER NOT NULL DEFAULT 0;
