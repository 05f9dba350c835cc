-- Who leads, where several managers share a store. Every write of a leader looks whether the lease
-- still has the epoch under which it was taken. A file of SQLite has one manager, which leaves this
-- row as it is.

CREATE TABLE lease (
    only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    -- Which process: a random text of its own; empty if none.
    holder   TEXT    NOT NULL,
    -- The same for people: the machine and the home.
    place    TEXT    NOT NULL,
    -- Where it is reached, if it listens.
    address  TEXT,
    -- How often the lease was taken.
    epoch    INTEGER NOT NULL,
    -- By the database's clock.
    taken_at INTEGER NOT NULL,
    until_at INTEGER NOT NULL
) STRICT;

INSERT INTO lease (only_row, holder, place, address, epoch, taken_at, until_at)
VALUES (1, '', '', NULL, 0, 0, 0);
