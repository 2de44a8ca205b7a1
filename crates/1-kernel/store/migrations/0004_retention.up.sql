-- Retention: what is taken away when its time is over, and the memory of the runs that do it.

-- The oldest event that is left. Events of finished tasks may go before the task, all but the last one.
ALTER TABLE task ADD COLUMN events_from INTEGER NOT NULL DEFAULT 1;

-- Tasks whose row is gone and whose steps and events are still to go. Written in the transaction that takes the row, so
-- that a death in between leaves no rows that nobody looks for.
CREATE TABLE task_pruned (
  task TEXT PRIMARY KEY,
  steps INTEGER NOT NULL,
  events INTEGER NOT NULL
) STRICT;

-- One row: the newest run and when the next one is due.
CREATE TABLE retention_run (
  slot INTEGER PRIMARY KEY,
  asked_by TEXT,
  started_at INTEGER,
  -- Null while a run is under way, also when the server died in the middle of it.
  finished_at INTEGER,
  -- Code of the error that kept a part of the run from being done.
  failure TEXT,
  next_at INTEGER NOT NULL
) STRICT;

CREATE TABLE retention_count (
  kind TEXT PRIMARY KEY,
  -- Rows that the newest run took, and all runs together.
  rows_last INTEGER NOT NULL,
  rows_total INTEGER NOT NULL
) STRICT;
