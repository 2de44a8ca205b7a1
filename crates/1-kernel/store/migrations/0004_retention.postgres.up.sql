-- Steps and events lie in one partition for each day of the task that they belong to. An id begins with the instant at
-- which it was made, so a day is a contiguous range of ids, and the key that was there before is the key of partitions.
-- The former tables stay, with all their rows, as the net for ids of days that nobody opened.
ALTER TABLE step RENAME TO step_default;
ALTER INDEX step_pkey RENAME TO step_default_pkey;
CREATE TABLE step (LIKE step_default INCLUDING ALL) PARTITION BY RANGE (task);
ALTER TABLE step ATTACH PARTITION step_default DEFAULT;
ALTER TABLE task_event RENAME TO task_event_default;
ALTER INDEX task_event_pkey RENAME TO task_event_default_pkey;
CREATE TABLE task_event (LIKE task_event_default INCLUDING ALL) PARTITION BY RANGE (task);
ALTER TABLE task_event ATTACH PARTITION task_event_default DEFAULT;

-- How the ids of all tasks begin that were made on a day, counted from 1970-01-01: Crockford's base 32 of the milliseconds.
CREATE FUNCTION history_day_begins(day BIGINT) RETURNS TEXT LANGUAGE sql IMMUTABLE STRICT
SET search_path = agent_os, pg_temp AS $body$
  SELECT 'task_' || string_agg(
    substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', 1 + (((day * 86400000) >> (5 * place)) & 31)::int, 1),
    '' ORDER BY place DESC)
  FROM generate_series(0, 9) AS place
$body$;

CREATE FUNCTION history_day_suffix(day BIGINT) RETURNS TEXT LANGUAGE sql IMMUTABLE STRICT
SET search_path = agent_os, pg_temp AS $body$
  SELECT to_char(DATE '1970-01-01' + day::int, 'YYYYMMDD')
$body$;

-- Opens the partitions of one day. Runs with the rights of the owner, because the server's role owns nothing; it can
-- make these two tables and nothing else. Rows of that day in the net move into them.
CREATE FUNCTION history_open_day(day BIGINT) RETURNS BIGINT LANGUAGE plpgsql SECURITY DEFINER STRICT
SET search_path = agent_os, pg_temp SET lock_timeout = '200ms' AS $body$
DECLARE
  -- Above what ten years of one partition a day need: a role that runs wild must not fill the catalogue.
  days_max CONSTANT BIGINT := 4000;
  first TEXT := history_day_begins(day);
  next TEXT := history_day_begins(day + 1);
  parent TEXT;
  part TEXT;
  opened BIGINT := 0;
BEGIN
  IF day < 0 OR day > 100000 THEN
    RAISE EXCEPTION 'day % is out of range', day;
  END IF;
  FOREACH parent IN ARRAY ARRAY['step', 'task_event'] LOOP
    part := parent || '_' || history_day_suffix(day);
    CONTINUE WHEN to_regclass('agent_os.' || part) IS NOT NULL;
    IF (SELECT count(*) FROM pg_inherits WHERE inhparent = ('agent_os.' || parent)::regclass) > days_max THEN
      RAISE EXCEPTION '% has % partitions already', parent, days_max;
    END IF;
    -- Filled first and attached then: only the net is locked against readers, and only for the attaching.
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', part, parent);
    EXECUTE format('WITH moved AS (DELETE FROM %I WHERE task >= %L AND task < %L RETURNING *)
                    INSERT INTO %I SELECT * FROM moved', parent || '_default', first, next, part);
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, part, first, next);
    opened := opened + 1;
  END LOOP;
  RETURN opened;
END
$body$;

-- Drops the partitions of one day in which nothing is alive: as long as one task of that day exists, whatever its state,
-- nothing happens and the answer is 0. The rule is checked here, so that the right to call this is no right to drop.
CREATE FUNCTION history_drop_day(day BIGINT) RETURNS BIGINT LANGUAGE plpgsql SECURITY DEFINER STRICT
SET search_path = agent_os, pg_temp SET lock_timeout = '200ms' AS $body$
DECLARE
  parent TEXT;
  part TEXT;
  parts TEXT[] := '{}';
BEGIN
  FOREACH parent IN ARRAY ARRAY['step', 'task_event'] LOOP
    part := parent || '_' || history_day_suffix(day);
    CONTINUE WHEN to_regclass('agent_os.' || part) IS NULL;
    -- Before the look: whoever has written into them has committed by then, and nobody writes into them any more.
    EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', part);
    parts := parts || part;
  END LOOP;
  PERFORM 1 FROM task WHERE id >= history_day_begins(day) AND id < history_day_begins(day + 1) LIMIT 1;
  IF FOUND THEN
    RETURN 0;
  END IF;
  FOREACH part IN ARRAY parts LOOP
    EXECUTE format('DROP TABLE %I', part);
  END LOOP;
  RETURN cardinality(parts);
END
$body$;

REVOKE ALL ON FUNCTION history_open_day(BIGINT), history_drop_day(BIGINT) FROM PUBLIC;
