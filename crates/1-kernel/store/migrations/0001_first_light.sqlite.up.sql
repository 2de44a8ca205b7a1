-- Accidents stop here; only published checkpoints stop an administrator.
CREATE TRIGGER audit_record_is_append_only_update BEFORE UPDATE ON audit_record
BEGIN SELECT RAISE(ABORT, 'audit records are never updated'); END;
CREATE TRIGGER audit_record_is_append_only_delete BEFORE DELETE ON audit_record
BEGIN SELECT RAISE(ABORT, 'audit records are never deleted'); END;
CREATE TRIGGER audit_checkpoint_is_append_only_update BEFORE UPDATE ON audit_checkpoint
BEGIN SELECT RAISE(ABORT, 'audit checkpoints are never updated'); END;
CREATE TRIGGER audit_checkpoint_is_append_only_delete BEFORE DELETE ON audit_checkpoint
BEGIN SELECT RAISE(ABORT, 'audit checkpoints are never deleted'); END;
