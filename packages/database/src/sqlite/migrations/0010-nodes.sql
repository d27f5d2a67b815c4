-- Machines that hold disks and run sandboxes. `regions` is a JSON array.
CREATE TABLE nodes (
  id TEXT PRIMARY KEY,
  regions TEXT NOT NULL,
  address TEXT NOT NULL,
  labels TEXT NOT NULL,
  -- Raised each time the node begins: what an earlier run of it still does counts no more.
  generation INTEGER NOT NULL,
  is_draining INTEGER NOT NULL DEFAULT 0,
  lease_until_ms INTEGER NOT NULL,
  started_at_ms INTEGER NOT NULL,
  seen_at_ms INTEGER NOT NULL,
  -- What its sandboxes may have together; without a limit of memory: null.
  places INTEGER NOT NULL,
  memory_mib INTEGER,
  -- What they have.
  reserved_places INTEGER NOT NULL DEFAULT 0 CHECK (reserved_places >= 0),
  reserved_memory_mib INTEGER NOT NULL DEFAULT 0 CHECK (reserved_memory_mib >= 0)
) STRICT;

-- The node that has a disk or runs a sandbox, and in which generation it began what is, or was, under way. What is here already belongs to the node of
-- this data directory, which takes this id.
ALTER TABLE disks ADD COLUMN node_id TEXT NOT NULL DEFAULT 'nod_00000000000000000000';
ALTER TABLE disks ADD COLUMN node_generation INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sandboxes ADD COLUMN node_id TEXT NOT NULL DEFAULT 'nod_00000000000000000000';
ALTER TABLE sandboxes ADD COLUMN node_generation INTEGER NOT NULL DEFAULT 0;

INSERT INTO nodes (id, regions, address, labels, generation, lease_until_ms, started_at_ms, seen_at_ms, places, reserved_places, reserved_memory_mib)
  SELECT 'nod_00000000000000000000', '[]', '', '{}', 0, 0, 0, 0, 0, count(*), coalesce(sum(memory_mib), 0)
  FROM sandboxes WHERE status <> 'stopped' HAVING EXISTS (SELECT 1 FROM organizations);
