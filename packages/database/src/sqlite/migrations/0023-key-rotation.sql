-- How far the replacement of the installation's key is, as JSON (`KeyRotationState`). Null: the store has the wraps of one key alone.
ALTER TABLE snapshot_store ADD COLUMN key_rotation TEXT;
