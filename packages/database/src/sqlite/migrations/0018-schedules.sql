-- How often the server makes a snapshot of a volume by itself, when the next one is due, and a JSON object of why the last tries failed.
ALTER TABLE disks ADD COLUMN every_ms INTEGER;
ALTER TABLE disks ADD COLUMN scheduled_at_ms INTEGER;
ALTER TABLE disks ADD COLUMN schedule_detail TEXT NOT NULL DEFAULT '{}';
-- Whether a snapshot is of a schedule, which may thin it out: nobody has labelled it or asked for its upload.
ALTER TABLE disks ADD COLUMN is_automatic INTEGER NOT NULL DEFAULT 0;
CREATE INDEX disks_scheduled ON disks (node_id, scheduled_at_ms) WHERE every_ms IS NOT NULL;
CREATE INDEX disks_automatic ON disks (parent_id, sequence) WHERE is_automatic = 1;
CREATE UNIQUE INDEX disks_automatic_once ON disks (parent_id) WHERE is_automatic = 1 AND state = 'creating';
-- The newest replicated state of a volume.
CREATE INDEX disks_replicated_states ON disks (parent_id, created_at_ms) WHERE kind = 'snapshot' AND state = 'ready' AND replication_state = 'replicated';
