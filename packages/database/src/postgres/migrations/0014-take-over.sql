-- `shared_pools`: by region, the pool that the node shares with others, and the opening of it by which they shut the node out.
-- `shut_out_generation`: the generation that others may shut out of these pools: it begins and renews nothing any more. Null: none was.
ALTER TABLE nodes ADD COLUMN shared_pools json NOT NULL DEFAULT '{}', ADD COLUMN shut_out_generation bigint;

-- Openings of the pool that may still write to the image, and are shut out before its node uses it.
ALTER TABLE disks ADD COLUMN taken_from json NOT NULL DEFAULT '[]';
