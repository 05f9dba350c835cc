-- The first tables of a site.
--
-- Times are microseconds since 1970-01-01T00:00:00Z, ids are their printed text, which sorts by
-- time. Columns hold what operators look for and what queries need; the column `record` (of
-- sessions also `spec`) holds the rest as a JSON document of the form `row_version`.

CREATE TABLE site (
    only_row    INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    id          TEXT    NOT NULL,
    incarnation INTEGER NOT NULL,
    epoch       INTEGER NOT NULL,
    next_event  INTEGER NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT;

-- The number of the last commit.
CREATE TABLE commits (
    only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    number   INTEGER NOT NULL
) STRICT;

INSERT INTO commits (only_row, number) VALUES (1, 0);

CREATE TABLE sessions (
    id          TEXT    NOT NULL PRIMARY KEY,
    name        TEXT    NOT NULL,
    domain      TEXT    NOT NULL,
    project     TEXT    NOT NULL,
    user_name   TEXT    NOT NULL,
    kind        TEXT    NOT NULL CHECK (kind IN ('interactive', 'batch', 'service')),
    array_id    TEXT,
    array_index INTEGER,
    state       TEXT    NOT NULL,
    outcome     TEXT,
    attempt     INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    started_at  INTEGER,
    ended_at    INTEGER,
    removing    INTEGER NOT NULL CHECK (removing IN (0, 1)),
    row_version INTEGER NOT NULL,
    spec        TEXT    NOT NULL,
    record      TEXT    NOT NULL,
    CHECK ((array_id IS NULL) = (array_index IS NULL)),
    CHECK ((state = 'ended') = (outcome IS NOT NULL))
) STRICT;

-- Pages of history, newest first: everybody's, a project's, an owner's, and by name.
CREATE INDEX sessions_by_time ON sessions (created_at, id);
CREATE INDEX sessions_by_project ON sessions (domain, project, created_at, id);
CREATE INDEX sessions_by_owner ON sessions (domain, project, user_name, created_at, id);
CREATE INDEX sessions_by_name ON sessions (name, created_at, id);
-- What a leader loads, and what retention deletes.
CREATE INDEX sessions_by_end ON sessions (ended_at) WHERE state = 'ended';
CREATE INDEX sessions_living ON sessions (id) WHERE state <> 'ended';
CREATE INDEX sessions_removing ON sessions (id) WHERE removing = 1;

-- Members of the current attempt have is_current = 1; those of earlier attempts stay for people
-- to look at.
CREATE TABLE members (
    session_id   TEXT    NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    attempt      INTEGER NOT NULL,
    member_index INTEGER NOT NULL,
    is_current   INTEGER NOT NULL CHECK (is_current IN (0, 1)),
    node_id      TEXT    NOT NULL,
    state        TEXT    NOT NULL,
    row_version  INTEGER NOT NULL,
    record       TEXT    NOT NULL,
    PRIMARY KEY (session_id, attempt, member_index)
) STRICT;

CREATE TABLE nodes (
    id          TEXT    NOT NULL PRIMARY KEY,
    name        TEXT    NOT NULL,
    pool        TEXT    NOT NULL,
    status      TEXT    NOT NULL CHECK (status IN ('connected', 'disconnected')),
    generation  INTEGER NOT NULL,
    row_version INTEGER NOT NULL,
    record      TEXT    NOT NULL
) STRICT;

-- The site's history. Events of a session go with it; it need not have a row any more when one
-- is added, so there is no reference.
CREATE TABLE events (
    number     INTEGER NOT NULL PRIMARY KEY,
    at         INTEGER NOT NULL,
    project    TEXT,
    session_id TEXT,
    node_id    TEXT,
    code       TEXT    NOT NULL,
    message    TEXT    NOT NULL
) STRICT;

CREATE INDEX events_by_session ON events (session_id) WHERE session_id IS NOT NULL;
CREATE INDEX events_by_time ON events (at);

CREATE TABLE idempotency_keys (
    user_name  TEXT    NOT NULL,
    key        TEXT    NOT NULL,
    digest     TEXT    NOT NULL,
    session_id TEXT    NOT NULL,
    at         INTEGER NOT NULL,
    PRIMARY KEY (user_name, key)
) STRICT;

CREATE INDEX idempotency_keys_by_time ON idempotency_keys (at);
