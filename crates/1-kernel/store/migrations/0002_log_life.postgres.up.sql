-- Records lie in partitions by the number of their day, so that a day goes by dropping its table. What has no day, from
-- before this migration or from a program that knows no days, lies in a partition of its own, which always takes rows:
-- no partition that could not be opened in time stops the log.
-- An index over a large log takes its time.
SET LOCAL statement_timeout = 0;
ALTER TABLE audit_record RENAME TO audit_record_undated;
DROP TRIGGER audit_record_is_append_only ON audit_record_undated;
ALTER TABLE audit_record_undated DROP CONSTRAINT audit_record_pkey;
ALTER INDEX audit_by_task RENAME TO audit_undated_by_task;
ALTER INDEX audit_by_action RENAME TO audit_undated_by_action;
ALTER TABLE audit_record_undated ADD COLUMN day BIGINT NOT NULL DEFAULT -1;

CREATE TABLE audit_record (LIKE audit_record_undated INCLUDING DEFAULTS) PARTITION BY RANGE (day);
ALTER TABLE audit_record ADD CONSTRAINT audit_record_pkey PRIMARY KEY (log, seq, day);
CREATE INDEX audit_by_task ON audit_record (task, seq) WHERE task IS NOT NULL;
CREATE INDEX audit_by_action ON audit_record (action, seq);
ALTER TABLE audit_record ATTACH PARTITION audit_record_undated FOR VALUES FROM (MINVALUE) TO (0);

-- Deleting is possible below the mark of a recorded order to prune, and nowhere else. The checkpoint that closes a day
-- stays for ever. The server's role has the right to neither.
CREATE FUNCTION audit_record_is_kept() RETURNS trigger LANGUAGE plpgsql SET search_path = agent_os, pg_temp AS $body$
BEGIN
  IF TG_OP = 'DELETE' AND EXISTS (SELECT 1 FROM audit_prune WHERE log = OLD.log AND first_kept > OLD.seq) THEN
    RETURN OLD;
  END IF;
  RAISE EXCEPTION 'audit records above the mark of pruning are never updated or deleted';
END
$body$;
CREATE FUNCTION audit_checkpoint_is_kept() RETURNS trigger LANGUAGE plpgsql SET search_path = agent_os, pg_temp AS $body$
BEGIN
  IF TG_OP = 'DELETE' AND EXISTS (SELECT 1 FROM audit_prune WHERE log = OLD.log AND first_kept > OLD.size)
    AND NOT EXISTS (SELECT 1 FROM audit_day WHERE log = OLD.log AND first_seq = OLD.size) THEN
    RETURN OLD;
  END IF;
  RAISE EXCEPTION 'audit checkpoints above the mark of pruning are never updated or deleted';
END
$body$;
CREATE TRIGGER audit_record_is_append_only BEFORE UPDATE OR DELETE ON audit_record
  FOR EACH ROW EXECUTE FUNCTION audit_record_is_kept();
CREATE TRIGGER audit_record_is_never_emptied BEFORE TRUNCATE ON audit_record
  FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
DROP TRIGGER audit_checkpoint_is_append_only ON audit_checkpoint;
CREATE TRIGGER audit_checkpoint_is_append_only BEFORE UPDATE OR DELETE ON audit_checkpoint
  FOR EACH ROW EXECUTE FUNCTION audit_checkpoint_is_kept();

CREATE TRIGGER audit_day_is_append_only BEFORE UPDATE OR DELETE ON audit_day
  FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_day_is_never_emptied BEFORE TRUNCATE ON audit_day
  FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_prune_is_append_only BEFORE UPDATE OR DELETE ON audit_prune
  FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_prune_is_never_emptied BEFORE TRUNCATE ON audit_prune
  FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_key_is_append_only BEFORE UPDATE OR DELETE ON audit_key
  FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_key_is_never_emptied BEFORE TRUNCATE ON audit_key
  FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();

-- Opens the partitions of some days, and can do nothing else: the server calls it with the rights of the owner. Attaching
-- takes a lock that neither readers nor writers of records hold; if it fails all the same, the day is left for a later
-- call, because an error here would refuse the records that are being sealed. Returns the last day up to which all of them are open.
CREATE FUNCTION audit_open_days(opened_from BIGINT, opened_to BIGINT) RETURNS BIGINT
LANGUAGE plpgsql SECURITY DEFINER SET search_path = agent_os, pg_temp SET lock_timeout = '200ms' AS $body$
DECLARE
  number BIGINT := opened_from;
  part TEXT;
BEGIN
  -- As many as are open ahead of the present day; a caller gone astray fills no catalogue.
  IF opened_from < 0 OR opened_to - opened_from > 31
    OR opened_to > 31 + (SELECT coalesce(max(audit_day.number), 0) FROM audit_day) THEN
    RAISE EXCEPTION 'days % to % are not the coming ones', opened_from, opened_to;
  END IF;
  WHILE number <= opened_to LOOP
    part := 'audit_record_day_' || number;
    IF to_regclass(part) IS NULL THEN
      BEGIN
        EXECUTE format('CREATE TABLE %I (LIKE audit_record INCLUDING DEFAULTS)', part);
        EXECUTE format('CREATE TRIGGER audit_record_is_never_emptied BEFORE TRUNCATE ON %I '
          'FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()', part);
        EXECUTE format('ALTER TABLE audit_record ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)', part, number, number + 1);
      EXCEPTION WHEN OTHERS THEN
        RETURN number - 1;
      END;
    END IF;
    number := number + 1;
  END LOOP;
  RETURN opened_to;
END
$body$;
REVOKE ALL ON FUNCTION audit_open_days(BIGINT, BIGINT) FROM PUBLIC;

-- Drops the partition of a day if every record of it lies below the mark. For the owner alone. Returns whether there was one.
CREATE FUNCTION audit_drop_day(pruned_log TEXT, dropped BIGINT) RETURNS BIGINT
LANGUAGE plpgsql SET search_path = agent_os, pg_temp SET lock_timeout = '200ms' AS $body$
DECLARE
  part TEXT := 'audit_record_day_' || dropped;
  others BOOLEAN;
  newest BIGINT;
BEGIN
  IF to_regclass(part) IS NULL THEN
    RETURN 0;
  END IF;
  EXECUTE format('SELECT EXISTS (SELECT 1 FROM %1$I WHERE log < $1) OR EXISTS (SELECT 1 FROM %1$I WHERE log > $1)', part)
    INTO others USING pruned_log;
  EXECUTE format('SELECT coalesce(max(seq), -1) FROM %I WHERE log = $1', part) INTO newest USING pruned_log;
  IF others OR newest >= (SELECT coalesce(max(first_kept), 0) FROM audit_prune WHERE log = pruned_log) THEN
    RAISE EXCEPTION 'day % holds records above the mark of pruning', dropped;
  END IF;
  EXECUTE format('DROP TABLE %I', part);
  RETURN 1;
END
$body$;
REVOKE ALL ON FUNCTION audit_drop_day(TEXT, BIGINT) FROM PUBLIC;
