-- How many disks there are and what they hold alone, by region, kind and state, kept by triggers: counting a million rows takes the server a tenth
-- of a second, in which it does nothing else.
CREATE TABLE disk_totals (
  region TEXT NOT NULL,
  kind TEXT NOT NULL,
  state TEXT NOT NULL,
  disks INTEGER NOT NULL,
  exclusive_bytes INTEGER NOT NULL,
  PRIMARY KEY (region, kind, state)
) STRICT, WITHOUT ROWID;

INSERT INTO disk_totals SELECT region, kind, state, count(*), sum(exclusive_bytes) FROM disks GROUP BY region, kind, state;

CREATE TRIGGER disk_totals_insert AFTER INSERT ON disks BEGIN
  INSERT INTO disk_totals VALUES (new.region, new.kind, new.state, 1, new.exclusive_bytes)
    ON CONFLICT DO UPDATE SET disks = disks + 1, exclusive_bytes = exclusive_bytes + excluded.exclusive_bytes;
END;

CREATE TRIGGER disk_totals_delete AFTER DELETE ON disks BEGIN
  UPDATE disk_totals SET disks = disks - 1, exclusive_bytes = exclusive_bytes - old.exclusive_bytes
    WHERE region = old.region AND kind = old.kind AND state = old.state;
END;

CREATE TRIGGER disk_totals_update AFTER UPDATE OF region, kind, state, exclusive_bytes ON disks BEGIN
  UPDATE disk_totals SET disks = disks - 1, exclusive_bytes = exclusive_bytes - old.exclusive_bytes
    WHERE region = old.region AND kind = old.kind AND state = old.state;
  INSERT INTO disk_totals VALUES (new.region, new.kind, new.state, 1, new.exclusive_bytes)
    ON CONFLICT DO UPDATE SET disks = disks + 1, exclusive_bytes = exclusive_bytes + excluded.exclusive_bytes;
END;
