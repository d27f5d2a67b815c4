-- What a start has to settle, and the trail of one organization among those of many, without reading everything.
CREATE INDEX disks_growing ON disks (node_id) WHERE grow_to_bytes IS NOT NULL;
CREATE INDEX events_list ON events (organization_id);
