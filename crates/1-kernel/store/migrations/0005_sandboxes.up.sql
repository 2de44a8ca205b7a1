-- Sandboxes: the place of each agent among the user numbers of the host, and what cgroups, quotas and the proxy count.

-- Added to the setting sandbox.first_host_id; given once, to no second agent, and kept when the agent is terminated: files of
-- its workspace belong to that number.
ALTER TABLE agent ADD COLUMN host_slot INTEGER;
CREATE UNIQUE INDEX agent_by_host_slot ON agent (host_slot);

ALTER TABLE agent ADD COLUMN processes_peak INTEGER NOT NULL DEFAULT 0;
ALTER TABLE agent ADD COLUMN oom_kills INTEGER NOT NULL DEFAULT 0;
ALTER TABLE agent ADD COLUMN throttled_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE agent ADD COLUMN workspace_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE agent ADD COLUMN egress_in_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE agent ADD COLUMN egress_out_bytes INTEGER NOT NULL DEFAULT 0;
