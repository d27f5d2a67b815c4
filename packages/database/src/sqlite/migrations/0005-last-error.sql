-- What went wrong with a volume last, for example that writes were lost, until somebody acknowledges it.
ALTER TABLE disks ADD COLUMN last_error TEXT;
ALTER TABLE disks ADD COLUMN last_error_at_ms INTEGER;
