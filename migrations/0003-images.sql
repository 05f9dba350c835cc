-- Images: each owner's, by the digest of its manifest, and the names that they are called by. The
-- content lies in files of the site's home, by digests that the manifests name.

CREATE TABLE images (
    id           TEXT    NOT NULL,
    domain       TEXT    NOT NULL,
    project      TEXT    NOT NULL,
    user_name    TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    architecture TEXT    NOT NULL,
    bytes        INTEGER NOT NULL,
    stored_bytes INTEGER NOT NULL,
    row_version  INTEGER NOT NULL,
    manifest     TEXT    NOT NULL,
    PRIMARY KEY (domain, project, user_name, id)
) STRICT;

CREATE TABLE image_names (
    domain    TEXT NOT NULL,
    project   TEXT NOT NULL,
    user_name TEXT NOT NULL,
    name      TEXT NOT NULL,
    image_id  TEXT NOT NULL,
    PRIMARY KEY (domain, project, user_name, name),
    FOREIGN KEY (domain, project, user_name, image_id)
        REFERENCES images (domain, project, user_name, id) ON DELETE CASCADE
) STRICT;

CREATE INDEX image_names_by_image ON image_names (domain, project, user_name, image_id);
