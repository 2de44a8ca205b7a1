ALTER TABLE audit_frontier DROP COLUMN divided;
DROP TABLE audit_key;
DROP TABLE audit_hold;
