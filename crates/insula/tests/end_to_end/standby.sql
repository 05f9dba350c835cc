-- What the tests of managers that stand by see of a server: which connection has written, for each
-- row of what a leader writes.

CREATE SCHEMA audit;
CREATE TABLE audit.writes (number BIGSERIAL, backend INTEGER, place TEXT);

CREATE FUNCTION audit.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO audit.writes (backend, place) VALUES (pg_backend_pid(), TG_TABLE_NAME);
    RETURN NULL;
END $$;
CREATE TRIGGER noted AFTER INSERT OR UPDATE OR DELETE ON lease
    FOR EACH ROW EXECUTE FUNCTION audit.note();
CREATE TRIGGER noted AFTER INSERT OR UPDATE OR DELETE ON site
    FOR EACH ROW EXECUTE FUNCTION audit.note();
CREATE TRIGGER noted AFTER INSERT OR UPDATE OR DELETE ON sessions
    FOR EACH ROW EXECUTE FUNCTION audit.note();
CREATE TRIGGER noted AFTER INSERT OR UPDATE OR DELETE ON events
    FOR EACH ROW EXECUTE FUNCTION audit.note();

-- How many connections have written.
CREATE VIEW audit.writers AS SELECT count(DISTINCT backend) FROM audit.writes;

-- Rows that another connection has written than the one that leads since the first take-over.
CREATE VIEW audit.others AS
    WITH backends AS (
        SELECT backend, min(number) AS first FROM audit.writes GROUP BY backend
        ORDER BY first LIMIT 2)
    SELECT count(*) FROM audit.writes
    WHERE number > (SELECT max(first) FROM backends)
    AND backend <> (SELECT backend FROM backends ORDER BY first DESC LIMIT 1);

-- Has the lease look as if nobody had taken it over since this was read.
CREATE TABLE audit.held AS SELECT holder, epoch FROM lease;
CREATE PROCEDURE audit.set_back() LANGUAGE sql AS $$
    UPDATE lease SET epoch = held.epoch, holder = held.holder,
        until_at = (extract(epoch FROM clock_timestamp()) * 1000000 + 60000000)::bigint
    FROM audit.held
$$;
