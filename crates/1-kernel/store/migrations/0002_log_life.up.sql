-- The life of the audit log: its days, the mark up to which it was pruned, legal holds, changes of its key.

-- A row where each day of a log begins, kept for ever: it holds what is needed to go on verifying when the days before
-- are gone. The end of a day is the beginning of the next.
CREATE TABLE audit_day (
  log TEXT NOT NULL,
  number INTEGER NOT NULL,
  -- Days since 1970-01-01 of the first record, UTC.
  date INTEGER NOT NULL,
  first_seq INTEGER NOT NULL,
  -- The right edge of the tree over all records before, and the hash of the last of them.
  frontier BLOB NOT NULL,
  last_leaf BLOB NOT NULL,
  PRIMARY KEY (log, number)
) STRICT;

CREATE UNIQUE INDEX audit_day_by_start ON audit_day (log, first_seq);

-- Orders to prune: records below the largest first_kept are gone or going. Each has its record in the log.
CREATE TABLE audit_prune (
  log TEXT NOT NULL,
  first_kept INTEGER NOT NULL,
  -- Number of the first day that is kept.
  day INTEGER NOT NULL,
  at INTEGER NOT NULL,
  PRIMARY KEY (log, first_kept)
) STRICT;

CREATE TABLE audit_hold (
  log TEXT NOT NULL,
  name TEXT NOT NULL,
  reason TEXT NOT NULL,
  -- First date that is held, in days since 1970-01-01; null holds the whole log.
  from_date INTEGER,
  placed_by TEXT NOT NULL,
  placed_at INTEGER NOT NULL,
  PRIMARY KEY (log, name)
) STRICT;

-- Changes of the log's key.
CREATE TABLE audit_key (
  log TEXT NOT NULL,
  -- The old key signs up to this size.
  size INTEGER NOT NULL,
  at INTEGER NOT NULL,
  -- The statement, a note signed by both keys.
  note TEXT NOT NULL,
  PRIMARY KEY (log, size)
) STRICT;

-- Size up to which the log is divided into days. A program that knows no days leaves it behind.
ALTER TABLE audit_frontier ADD COLUMN divided INTEGER;
