-- How many disks there are and what they hold alone, by their node too: each node has pools of its own.
DROP TRIGGER disk_totals_insert;
DROP TRIGGER disk_totals_delete;
DROP TRIGGER disk_totals_update;
DROP TABLE disk_totals;

CREATE TABLE disk_totals (
  node_id TEXT NOT NULL,
  region TEXT NOT NULL,
  kind TEXT NOT NULL,
  state TEXT NOT NULL,
  disks INTEGER NOT NULL,
  exclusive_bytes INTEGER NOT NULL,
  PRIMARY KEY (node_id, region, kind, state)
) STRICT, WITHOUT ROWID;

INSERT INTO disk_totals SELECT node_id, region, kind, state, count(*), sum(exclusive_bytes) FROM disks GROUP BY node_id, region, kind, state;

CREATE TRIGGER disk_totals_insert AFTER INSERT ON disks BEGIN
  INSERT INTO disk_totals VALUES (new.node_id, new.region, new.kind, new.state, 1, new.exclusive_bytes)
    ON CONFLICT DO UPDATE SET disks = disks + 1, exclusive_bytes = exclusive_bytes + excluded.exclusive_bytes;
END;

CREATE TRIGGER disk_totals_delete AFTER DELETE ON disks BEGIN
  UPDATE disk_totals SET disks = disks - 1, exclusive_bytes = exclusive_bytes - old.exclusive_bytes
    WHERE node_id = old.node_id AND region = old.region AND kind = old.kind AND state = old.state;
END;

CREATE TRIGGER disk_totals_update AFTER UPDATE OF node_id, region, kind, state, exclusive_bytes ON disks BEGIN
  UPDATE disk_totals SET disks = disks - 1, exclusive_bytes = exclusive_bytes - old.exclusive_bytes
    WHERE node_id = old.node_id AND region = old.region AND kind = old.kind AND state = old.state;
  INSERT INTO disk_totals VALUES (new.node_id, new.region, new.kind, new.state, 1, new.exclusive_bytes)
    ON CONFLICT DO UPDATE SET disks = disks + 1, exclusive_bytes = exclusive_bytes + excluded.exclusive_bytes;
END;
