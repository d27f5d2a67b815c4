-- What deleting a disk would free, when its sizes were measured (null: never), and the image that `allocated_bytes` is measured against: what a
-- volume was cloned from, and for a snapshot what its volume was cloned from.
ALTER TABLE disks ADD COLUMN exclusive_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE disks ADD COLUMN usage_measured_at_ms INTEGER;
ALTER TABLE disks ADD COLUMN base_image_id TEXT;

-- What was called allocated until now is what deleting would free.
UPDATE disks SET exclusive_bytes = allocated_bytes;
UPDATE disks SET base_image_id = parent_id WHERE kind = 'volume';
UPDATE disks SET base_image_id = (SELECT volumes.parent_id FROM disks AS volumes WHERE volumes.id = disks.parent_id AND volumes.kind = 'volume')
  WHERE kind = 'snapshot';

CREATE INDEX disks_usage ON disks (usage_measured_at_ms) WHERE state = 'ready';
