-- What a leader has to know of a store that was restored from an older copy.

-- The epoch of the copy; 0 if the store was never restored. Nodes and sessions hold the rest in
-- their documents.
ALTER TABLE site ADD COLUMN restored_epoch INTEGER NOT NULL DEFAULT 0;
