-- Search by terms of any length and by labels, within one organization: what other organizations have does not slow it down.
-- Each ready image is a document of four columns: its organization and kind as one word; its slug as overlapping words of three letters, whose
-- order makes a longer term a phrase; the same in words of one and two letters, for shorter terms; and each of its labels as one word.
DROP TRIGGER images_search_insert;
DROP TRIGGER images_search_delete;
DROP TABLE image_search;

-- Slugs have up to 32 letters.
CREATE TABLE slug_positions (position INTEGER PRIMARY KEY) STRICT;
INSERT INTO slug_positions
  WITH RECURSIVE positions (position) AS (VALUES (1) UNION ALL SELECT position + 1 FROM positions WHERE position < 32)
  SELECT position FROM positions;

CREATE VIRTUAL TABLE image_search USING fts5 (
  owner, slug, short, labels, content = '', contentless_delete = 1, tokenize = "ascii tokenchars '-_:'"
);

CREATE VIEW image_search_documents AS
  SELECT
    sequence,
    organization_id || ':' || kind AS owner,
    (SELECT group_concat(substr(images.slug, position, 3), ' ' ORDER BY position)
       FROM slug_positions WHERE position <= length(images.slug) - 2) AS slug,
    (SELECT group_concat(word, ' ') FROM (
       SELECT substr(images.slug, position, 1) AS word FROM slug_positions WHERE position <= length(images.slug)
       UNION SELECT substr(images.slug, position, 2) FROM slug_positions WHERE position < length(images.slug))) AS short,
    (SELECT group_concat(hex(key || '=' || value), ' ') FROM json_each(images.labels)) AS labels
  FROM images WHERE state = 'ready';

INSERT INTO image_search (rowid, owner, slug, short, labels) SELECT * FROM image_search_documents;

CREATE TRIGGER image_search_follow AFTER UPDATE OF state, slug, labels ON images BEGIN
  DELETE FROM image_search WHERE rowid = old.sequence AND old.state = 'ready';
  INSERT INTO image_search (rowid, owner, slug, short, labels) SELECT * FROM image_search_documents WHERE sequence = new.sequence;
END;
