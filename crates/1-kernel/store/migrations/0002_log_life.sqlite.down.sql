DROP TRIGGER audit_record_is_append_only_delete;
CREATE TRIGGER audit_record_is_append_only_delete BEFORE DELETE ON audit_record
BEGIN SELECT RAISE(ABORT, 'audit records are never deleted'); END;
DROP TRIGGER audit_checkpoint_is_append_only_delete;
CREATE TRIGGER audit_checkpoint_is_append_only_delete BEFORE DELETE ON audit_checkpoint
BEGIN SELECT RAISE(ABORT, 'audit checkpoints are never deleted'); END;
DROP TABLE audit_prune;
DROP TABLE audit_day;
