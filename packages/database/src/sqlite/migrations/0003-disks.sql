-- Names: a row is a disk (a volume or a snapshot), which has one block image in the pool; what a sandbox has on a volume is a hold.
DROP TRIGGER image_search_follow;
DROP VIEW image_search_documents;
DROP INDEX images_slug;
DROP INDEX images_list;
DROP INDEX images_parent;
DROP INDEX images_unsettled;
DROP INDEX attachments_writer;
DROP INDEX attachments_sandbox;

ALTER TABLE images RENAME TO disks;
ALTER TABLE image_search RENAME TO disk_search;
ALTER TABLE attachments RENAME TO holds;

CREATE UNIQUE INDEX disks_slug ON disks (organization_id, slug) WHERE state IN ('creating', 'ready');
CREATE INDEX disks_list ON disks (organization_id, kind, state, sequence DESC);
CREATE INDEX disks_parent ON disks (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX disks_unsettled ON disks (state, purge_at_ms) WHERE state <> 'ready';
CREATE UNIQUE INDEX holds_writer ON holds (volume_id) WHERE is_read_only = 0;
CREATE INDEX holds_sandbox ON holds (sandbox_id);

CREATE VIEW disk_search_documents AS
  SELECT
    sequence,
    organization_id || ':' || kind AS owner,
    (SELECT group_concat(substr(disks.slug, position, 3), ' ' ORDER BY position)
       FROM slug_positions WHERE position <= length(disks.slug) - 2) AS slug,
    (SELECT group_concat(word, ' ') FROM (
       SELECT substr(disks.slug, position, 1) AS word FROM slug_positions WHERE position <= length(disks.slug)
       UNION SELECT substr(disks.slug, position, 2) FROM slug_positions WHERE position < length(disks.slug))) AS short,
    (SELECT group_concat(hex(key || '=' || value), ' ') FROM json_each(disks.labels)) AS labels
  FROM disks WHERE state = 'ready';

CREATE TRIGGER disk_search_follow AFTER UPDATE OF state, slug, labels ON disks BEGIN
  DELETE FROM disk_search WHERE rowid = old.sequence AND old.state = 'ready';
  INSERT INTO disk_search (rowid, owner, slug, short, labels) SELECT * FROM disk_search_documents WHERE sequence = new.sequence;
END;
