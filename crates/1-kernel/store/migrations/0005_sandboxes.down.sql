DROP INDEX agent_by_host_slot;
ALTER TABLE agent DROP COLUMN host_slot;
ALTER TABLE agent DROP COLUMN processes_peak;
ALTER TABLE agent DROP COLUMN oom_kills;
ALTER TABLE agent DROP COLUMN throttled_ms;
ALTER TABLE agent DROP COLUMN workspace_bytes;
ALTER TABLE agent DROP COLUMN egress_in_bytes;
ALTER TABLE agent DROP COLUMN egress_out_bytes;
