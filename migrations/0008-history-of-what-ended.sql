-- Pages of history are of what has ended.
--
-- What lives stands in the leader's memory, so a row that still changes goes into few trees: its
-- table, its id, and what a leader loads. Eight indexes of pages were rewritten with each change of a
-- state. A session that has ended is in four of them, and in others if it is an element of an array:
-- a page of both is made of two that are in order. All are bound to `outcome`, which is set once.

DROP INDEX sessions_by_time;
DROP INDEX sessions_by_project;
DROP INDEX sessions_by_owner;
DROP INDEX sessions_by_name;
DROP INDEX sessions_alone_by_time;
DROP INDEX sessions_alone_by_project;
DROP INDEX sessions_alone_by_owner;
DROP INDEX sessions_alone_by_name;
DROP INDEX sessions_living;
DROP INDEX sessions_by_end;

-- What a leader loads, and what retention deletes.
CREATE INDEX sessions_living ON sessions (created_at) WHERE outcome IS NULL;
CREATE INDEX sessions_by_end ON sessions (ended_at) WHERE outcome IS NOT NULL;

-- Pages of sessions that have ended and are no elements, newest first: everybody's, a project's, an
-- owner's, and by name.
CREATE INDEX ended_alone_by_time ON sessions (created_at, id)
    WHERE outcome IS NOT NULL AND array_id IS NULL;
CREATE INDEX ended_alone_by_project ON sessions (domain, project, created_at, id)
    WHERE outcome IS NOT NULL AND array_id IS NULL;
CREATE INDEX ended_alone_by_owner ON sessions (domain, project, user_name, created_at, id)
    WHERE outcome IS NOT NULL AND array_id IS NULL;
CREATE INDEX ended_alone_by_name ON sessions (name, created_at, id)
    WHERE outcome IS NOT NULL AND array_id IS NULL;

-- The same of elements that have ended.
CREATE INDEX ended_elements_by_time ON sessions (created_at, id)
    WHERE outcome IS NOT NULL AND array_id IS NOT NULL;
CREATE INDEX ended_elements_by_project ON sessions (domain, project, created_at, id)
    WHERE outcome IS NOT NULL AND array_id IS NOT NULL;
CREATE INDEX ended_elements_by_owner ON sessions (domain, project, user_name, created_at, id)
    WHERE outcome IS NOT NULL AND array_id IS NOT NULL;
CREATE INDEX ended_elements_by_name ON sessions (name, created_at, id)
    WHERE outcome IS NOT NULL AND array_id IS NOT NULL;

-- Members lie in the order of their key, in one tree instead of two. They go with their session by
-- the one statement that deletes sessions: a reference was looked up for each row that was written.
CREATE TABLE members_by_key (
    session_id   TEXT    NOT NULL,
    attempt      INTEGER NOT NULL,
    member_index INTEGER NOT NULL,
    is_current   INTEGER NOT NULL CHECK (is_current IN (0, 1)),
    node_id      TEXT    NOT NULL,
    state        TEXT    NOT NULL,
    row_version  INTEGER NOT NULL,
    record       TEXT    NOT NULL,
    PRIMARY KEY (session_id, attempt, member_index)
) STRICT, WITHOUT ROWID;
INSERT INTO members_by_key (session_id, attempt, member_index, is_current, node_id, state,
    row_version, record)
SELECT session_id, attempt, member_index, is_current, node_id, state, row_version, record
FROM members;
DROP TABLE members;
ALTER TABLE members_by_key RENAME TO members;
