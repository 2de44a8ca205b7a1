CREATE TABLE audit_record_whole (LIKE audit_record INCLUDING DEFAULTS);
INSERT INTO audit_record_whole SELECT * FROM audit_record;
DROP TABLE audit_record;
ALTER TABLE audit_record_whole RENAME TO audit_record;
ALTER TABLE audit_record DROP COLUMN day;
ALTER TABLE audit_record ADD CONSTRAINT audit_record_pkey PRIMARY KEY (log, seq);
CREATE INDEX audit_by_task ON audit_record (task, seq) WHERE task IS NOT NULL;
CREATE INDEX audit_by_action ON audit_record (action, seq);
CREATE TRIGGER audit_record_is_append_only BEFORE UPDATE OR DELETE ON audit_record
  FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_record_is_never_emptied BEFORE TRUNCATE ON audit_record
  FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
DROP TRIGGER audit_checkpoint_is_append_only ON audit_checkpoint;
CREATE TRIGGER audit_checkpoint_is_append_only BEFORE UPDATE OR DELETE ON audit_checkpoint
  FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();
DROP TABLE audit_prune;
DROP TABLE audit_day;
DROP FUNCTION audit_record_is_kept();
DROP FUNCTION audit_checkpoint_is_kept();
DROP FUNCTION audit_open_days(BIGINT, BIGINT);
DROP FUNCTION audit_drop_day(TEXT, BIGINT);
