-- What went wrong with the volumes of a sandbox, found at its end: a JSON array of sentences.
ALTER TABLE sandboxes ADD COLUMN damages TEXT NOT NULL DEFAULT '[]';
