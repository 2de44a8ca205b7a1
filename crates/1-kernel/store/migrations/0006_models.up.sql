-- Models: budgets, what was used of them, and the part of each that a node may spend without asking.

CREATE TABLE budget (
  scope TEXT NOT NULL,
  period TEXT NOT NULL,
  unit TEXT NOT NULL,
  -- 'operator' or 'manifest': both hold.
  origin TEXT NOT NULL,
  amount INTEGER NOT NULL,
  set_by TEXT NOT NULL,
  set_at INTEGER NOT NULL,
  PRIMARY KEY (scope, period, unit, origin)
) STRICT;

-- One row for each period that something was used in. used + leased never grows beyond the smallest budget.
CREATE TABLE budget_use (
  scope TEXT NOT NULL,
  period TEXT NOT NULL,
  unit TEXT NOT NULL,
  started_at INTEGER NOT NULL,
  used INTEGER NOT NULL,
  -- In the hands of nodes.
  leased INTEGER NOT NULL,
  -- Part of used that a node held when it died: what became of it is not known, so it counts.
  forfeited INTEGER NOT NULL,
  warned_at INTEGER,
  used_at INTEGER NOT NULL,
  PRIMARY KEY (scope, period, unit, started_at)
) STRICT;
CREATE INDEX budget_use_by_start ON budget_use (started_at);

CREATE TABLE budget_lease (
  scope TEXT NOT NULL,
  period TEXT NOT NULL,
  unit TEXT NOT NULL,
  started_at INTEGER NOT NULL,
  node TEXT NOT NULL,
  amount INTEGER NOT NULL,
  PRIMARY KEY (scope, period, unit, started_at, node)
) STRICT;

-- What was spent, for people: sums by day, payer and model. Budgets do not depend on it.
CREATE TABLE model_spend (
  day INTEGER NOT NULL,
  payer TEXT NOT NULL,
  model TEXT NOT NULL,
  requests INTEGER NOT NULL,
  failures INTEGER NOT NULL,
  tokens_input INTEGER NOT NULL,
  tokens_output INTEGER NOT NULL,
  nano_usd INTEGER NOT NULL,
  -- Requests whose usage the provider did not tell.
  estimated INTEGER NOT NULL,
  PRIMARY KEY (day, payer, model)
) STRICT;

-- Providers, aliases and prices of the operator, as one document that is replaced as a whole.
CREATE TABLE model_config (
  revision INTEGER PRIMARY KEY,
  document TEXT NOT NULL,
  set_by TEXT NOT NULL,
  set_at INTEGER NOT NULL
) STRICT;

-- Names or patterns of models that a token with the scope 'models' may call, parted by spaces; empty: all.
ALTER TABLE token ADD COLUMN models TEXT NOT NULL DEFAULT '';
