DROP TABLE retention_count;
DROP TABLE retention_run;
DROP TABLE task_pruned;
ALTER TABLE task DROP COLUMN events_from;
