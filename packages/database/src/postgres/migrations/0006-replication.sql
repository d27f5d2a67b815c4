-- Whether a snapshot is in the snapshot store: local, uploading, failed or replicated. `replication_retry_at_ms` is of those that are to be uploaded, and
-- `replication_detail` a JSON object of what the last upload has brought, or why it failed.
ALTER TABLE disks
  ADD COLUMN replication_state text COLLATE "C" NOT NULL DEFAULT 'local',
  ADD COLUMN replication_at_ms bigint,
  ADD COLUMN replication_retry_at_ms bigint,
  ADD COLUMN replication_detail json NOT NULL DEFAULT '{}';
CREATE INDEX disks_replicating ON disks (node_id, replication_retry_at_ms) WHERE replication_state IN ('uploading', 'failed');
CREATE INDEX disks_local_snapshots ON disks (node_id, region) WHERE replication_state = 'local' AND kind = 'snapshot';
