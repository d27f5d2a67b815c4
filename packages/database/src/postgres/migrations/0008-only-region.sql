-- The only region that a node may have, of the token with which it joined; null: those that it says.
ALTER TABLE nodes ADD COLUMN only_region text COLLATE "C";
UPDATE nodes SET only_region = (SELECT region FROM join_tokens WHERE node_id = nodes.id);
