-- Deleting is possible below the mark of a recorded order to prune, and nowhere else. The checkpoint that closes a day
-- stays for ever.
DROP TRIGGER audit_record_is_append_only_delete;
CREATE TRIGGER audit_record_is_append_only_delete BEFORE DELETE ON audit_record
WHEN NOT EXISTS (SELECT 1 FROM audit_prune WHERE log = OLD.log AND first_kept > OLD.seq)
BEGIN SELECT RAISE(ABORT, 'audit records above the mark of pruning are never deleted'); END;

DROP TRIGGER audit_checkpoint_is_append_only_delete;
CREATE TRIGGER audit_checkpoint_is_append_only_delete BEFORE DELETE ON audit_checkpoint
WHEN NOT EXISTS (SELECT 1 FROM audit_prune WHERE log = OLD.log AND first_kept > OLD.size)
  OR EXISTS (SELECT 1 FROM audit_day WHERE log = OLD.log AND first_seq = OLD.size)
BEGIN SELECT RAISE(ABORT, 'audit checkpoints above the mark of pruning are never deleted'); END;

CREATE TRIGGER audit_day_is_append_only_update BEFORE UPDATE ON audit_day
BEGIN SELECT RAISE(ABORT, 'days of the audit log are never updated'); END;
CREATE TRIGGER audit_day_is_append_only_delete BEFORE DELETE ON audit_day
BEGIN SELECT RAISE(ABORT, 'days of the audit log are never deleted'); END;
CREATE TRIGGER audit_prune_is_append_only_update BEFORE UPDATE ON audit_prune
BEGIN SELECT RAISE(ABORT, 'orders to prune are never updated'); END;
CREATE TRIGGER audit_prune_is_append_only_delete BEFORE DELETE ON audit_prune
BEGIN SELECT RAISE(ABORT, 'orders to prune are never deleted'); END;
CREATE TRIGGER audit_key_is_append_only_update BEFORE UPDATE ON audit_key
BEGIN SELECT RAISE(ABORT, 'changes of the log''s key are never updated'); END;
CREATE TRIGGER audit_key_is_append_only_delete BEFORE DELETE ON audit_key
BEGIN SELECT RAISE(ABORT, 'changes of the log''s key are never deleted'); END;
