-- How many files, directories and links a disk's file system can hold and holds, measured together with its sizes; null: not yet.
ALTER TABLE disks ADD COLUMN inodes INTEGER;
ALTER TABLE disks ADD COLUMN used_inodes INTEGER;
