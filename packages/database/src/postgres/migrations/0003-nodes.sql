-- Machines that hold disks and run sandboxes. `regions` is a JSON array.
CREATE TABLE nodes (
  id text COLLATE "C" PRIMARY KEY,
  regions json NOT NULL,
  address text NOT NULL,
  labels json NOT NULL,
  -- Raised each time the node begins: what an earlier run of it still does counts no more.
  generation bigint NOT NULL,
  is_draining boolean NOT NULL DEFAULT false,
  lease_until_ms bigint NOT NULL,
  started_at_ms bigint NOT NULL,
  seen_at_ms bigint NOT NULL,
  -- What its sandboxes may have together; without a limit of memory: null.
  places bigint NOT NULL,
  memory_mib bigint,
  -- What they have.
  reserved_places bigint NOT NULL DEFAULT 0 CHECK (reserved_places >= 0),
  reserved_memory_mib bigint NOT NULL DEFAULT 0 CHECK (reserved_memory_mib >= 0)
) WITH (fillfactor = 50);

-- The node that has a disk or runs a sandbox, and in which generation it began what is, or was, under way. What is here already belongs to the node of
-- the one data directory that this database is for, which takes this id.
ALTER TABLE disks ADD COLUMN node_id text COLLATE "C" NOT NULL DEFAULT 'nod_00000000000000000000', ADD COLUMN node_generation bigint NOT NULL DEFAULT 0;
ALTER TABLE disks ALTER COLUMN node_id DROP DEFAULT, ALTER COLUMN node_generation DROP DEFAULT;
ALTER TABLE sandboxes ADD COLUMN node_id text COLLATE "C" NOT NULL DEFAULT 'nod_00000000000000000000', ADD COLUMN node_generation bigint NOT NULL DEFAULT 0;
ALTER TABLE sandboxes ALTER COLUMN node_id DROP DEFAULT, ALTER COLUMN node_generation DROP DEFAULT;

INSERT INTO nodes (id, regions, address, labels, generation, lease_until_ms, started_at_ms, seen_at_ms, places, reserved_places, reserved_memory_mib)
  SELECT 'nod_00000000000000000000', '[]', '', '{}', 0, 0, 0, 0, 0, count(*), coalesce(sum(memory_mib), 0)
  FROM sandboxes WHERE status <> 'stopped' HAVING EXISTS (SELECT FROM organizations);

-- Reservations lock the row of their organization, for its limit, and then that of their node, for its capacity.
DROP TABLE sandbox_gate;
