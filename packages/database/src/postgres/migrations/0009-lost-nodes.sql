-- When a node was given up as lost for ever: no run of it begins any more, and what it had is being settled, after which it is forgotten.
ALTER TABLE nodes ADD COLUMN lost_at_ms bigint;

-- Where a node that was forgotten is told so when it comes back, until it was; null: nowhere.
ALTER TABLE forgotten_nodes ADD COLUMN address text, ADD COLUMN forgotten_at_ms bigint NOT NULL DEFAULT 0;

-- When the node that had the image was given up. What has no copy in the snapshot store is lost with it, and is purged at `purge_at_ms` though nobody deleted it.
ALTER TABLE disks ADD COLUMN lost_at_ms bigint;
CREATE INDEX disks_lost ON disks (purge_at_ms) WHERE lost_at_ms IS NOT NULL;
