-- Until when a session that was extended outlives its creator's connection.
ALTER TABLE sandboxes ADD COLUMN keep_until_ms bigint;
