-- How many disks there are and what they hold alone, by their node too: each node has pools of its own.
DROP TABLE disk_totals;
DROP FUNCTION disk_totals_add;

CREATE TABLE disk_totals (
  node_id text COLLATE "C" NOT NULL,
  region text COLLATE "C" NOT NULL,
  kind text COLLATE "C" NOT NULL,
  state text COLLATE "C" NOT NULL,
  part int NOT NULL,
  disks bigint NOT NULL,
  exclusive_bytes bigint NOT NULL,
  PRIMARY KEY (node_id, region, kind, state, part)
) WITH (fillfactor = 50);

INSERT INTO disk_totals SELECT node_id, region, kind, state, 0, count(*), sum(exclusive_bytes) FROM disks GROUP BY node_id, region, kind, state;

CREATE FUNCTION disk_totals_add(node_id text, region text, kind text, state text, disks bigint, exclusive_bytes numeric) RETURNS void LANGUAGE sql AS $$
  INSERT INTO disk_totals VALUES ($1, $2, $3, $4, pg_backend_pid() % 64, $5, $6)
    ON CONFLICT (node_id, region, kind, state, part) DO UPDATE
      SET disks = disk_totals.disks + excluded.disks, exclusive_bytes = disk_totals.exclusive_bytes + excluded.exclusive_bytes
$$;

CREATE OR REPLACE FUNCTION disk_totals_follow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    PERFORM disk_totals_add(node_id, region, kind, state, count(*), sum(exclusive_bytes)) FROM made GROUP BY node_id, region, kind, state;
  ELSIF TG_OP = 'DELETE' THEN
    PERFORM disk_totals_add(node_id, region, kind, state, -count(*), -sum(exclusive_bytes)) FROM gone GROUP BY node_id, region, kind, state;
  ELSE
    PERFORM disk_totals_add(node_id, region, kind, state, sum(one), sum(bytes)) FROM (
      SELECT node_id, region, kind, state, -1 AS one, -exclusive_bytes AS bytes FROM gone
      UNION ALL SELECT node_id, region, kind, state, 1, exclusive_bytes FROM made
    ) AS changes GROUP BY node_id, region, kind, state HAVING sum(one) <> 0 OR sum(bytes) <> 0;
  END IF;
  RETURN NULL;
END $$;
