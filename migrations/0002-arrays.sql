-- Arrays, further attempts, and what sessions wait for.
--
-- An array is a row as long as one of its elements is; elements are sessions. What a session waits
-- for and its attempts stand in its column `record`.

CREATE TABLE arrays (
    id          TEXT    NOT NULL PRIMARY KEY,
    name        TEXT    NOT NULL,
    domain      TEXT    NOT NULL,
    project     TEXT    NOT NULL,
    user_name   TEXT    NOT NULL,
    size        INTEGER NOT NULL,
    throttle    INTEGER,
    digest      TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    row_version INTEGER NOT NULL,
    spec        TEXT    NOT NULL,
    record      TEXT    NOT NULL
) STRICT;

-- Pages of arrays, newest first: everybody's, an owner's, and by name.
CREATE INDEX arrays_by_time ON arrays (created_at, id);
CREATE INDEX arrays_by_project ON arrays (domain, project, created_at, id);
CREATE INDEX arrays_by_owner ON arrays (domain, project, user_name, created_at, id);
CREATE INDEX arrays_by_name ON arrays (name, created_at, id);

-- The elements of an array.
CREATE INDEX sessions_by_array ON sessions (array_id, array_index) WHERE array_id IS NOT NULL;
-- Pages of sessions that are no elements: one array may have more elements than a page has rows.
CREATE INDEX sessions_alone_by_time ON sessions (created_at, id) WHERE array_id IS NULL;
CREATE INDEX sessions_alone_by_project ON sessions (domain, project, created_at, id)
    WHERE array_id IS NULL;
CREATE INDEX sessions_alone_by_owner ON sessions (domain, project, user_name, created_at, id)
    WHERE array_id IS NULL;
CREATE INDEX sessions_alone_by_name ON sessions (name, created_at, id) WHERE array_id IS NULL;

ALTER TABLE events ADD COLUMN array_id TEXT;
CREATE INDEX events_by_array ON events (array_id) WHERE array_id IS NOT NULL;

ALTER TABLE idempotency_keys ADD COLUMN array_id TEXT;
