-- What operators have ordered of nodes. A drained node gets nothing new, until that is taken back.
-- A removed one no longer belongs to the site; its row stays, so that it is known again if it comes
-- back. The columns of an order are null together.

ALTER TABLE nodes ADD COLUMN drained_by TEXT;
ALTER TABLE nodes ADD COLUMN drained_at INTEGER;
ALTER TABLE nodes ADD COLUMN drain_reason TEXT;
ALTER TABLE nodes ADD COLUMN removed_by TEXT;
ALTER TABLE nodes ADD COLUMN removed_at INTEGER;
ALTER TABLE nodes ADD COLUMN removed_lost INTEGER;
