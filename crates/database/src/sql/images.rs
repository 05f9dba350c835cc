//! The rows of images and of their names.

use super::read::{Rows, text, unsigned};
use super::write::{run, signed, unwritable};
use crate::error::StoreError;
use crate::rows::{ManifestDocument, ROW_VERSION, RowError, read_document, write_document};
use crate::sql::{Columns, Database, values};
use domain::{ImageId, ImageName, Owner, Timestamp};
use lifecycle::rows::{ImageNameRow, ImageRecord};

pub(crate) fn put_image(database: &dyn Database, image: &ImageRecord) -> Result<(), StoreError> {
    let error = || unwritable("images", image.id);
    let document = ManifestDocument::from(&image.manifest);
    run(
        database,
        "put an image",
        "INSERT INTO images (id, domain, project, user_name, created_at, architecture, bytes,
             stored_bytes, row_version, manifest, case_twins)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
         ON CONFLICT (domain, project, user_name, id) DO UPDATE SET
             created_at = excluded.created_at, architecture = excluded.architecture,
             bytes = excluded.bytes, stored_bytes = excluded.stored_bytes,
             row_version = excluded.row_version, manifest = excluded.manifest,
             case_twins = excluded.case_twins",
        values![
            image.id.to_string(),
            image.owner.domain,
            image.owner.project,
            image.owner.user,
            image.created_at.0,
            image.manifest.architecture,
            signed(image.manifest.bytes(), "bytes").map_err(error())?,
            signed(image.manifest.stored_bytes(), "stored_bytes").map_err(error())?,
            ROW_VERSION,
            write_document(&document).map_err(error())?,
            signed(image.case_twins, "case_twins").map_err(error())?,
        ],
    )
}

/// Deletes an image with its names (by reference).
pub(crate) fn delete_image(
    database: &dyn Database,
    owner: &Owner,
    image: ImageId,
) -> Result<(), StoreError> {
    run(
        database,
        "delete an image",
        "DELETE FROM images WHERE domain = ?1 AND project = ?2 AND user_name = ?3 AND id = ?4",
        values![owner.domain, owner.project, owner.user, image.to_string()],
    )
}

pub(crate) fn put_name(database: &dyn Database, row: &ImageNameRow) -> Result<(), StoreError> {
    run(
        database,
        "put the name of an image",
        "INSERT INTO image_names (domain, project, user_name, name, image_id)
         VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (domain, project, user_name, name) DO UPDATE SET
             image_id = excluded.image_id",
        values![
            row.owner.domain,
            row.owner.project,
            row.owner.user,
            row.name.as_str(),
            row.image.to_string(),
        ],
    )
}

pub(crate) fn delete_name(
    database: &dyn Database,
    owner: &Owner,
    name: &ImageName,
) -> Result<(), StoreError> {
    run(
        database,
        "delete the name of an image",
        "DELETE FROM image_names
         WHERE domain = ?1 AND project = ?2 AND user_name = ?3 AND name = ?4",
        values![owner.domain, owner.project, owner.user, name.as_str()],
    )
}

/// All images, by owner and id.
pub(crate) fn images(database: &dyn Database) -> Result<Vec<ImageRecord>, StoreError> {
    let rows = Rows {
        database,
        table: "images",
        act: "read images",
    };
    let sql = "SELECT id, domain, project, user_name, created_at, row_version, manifest,
                   case_twins
               FROM images ORDER BY domain, project, user_name, id";
    rows.all(sql, values![], |row| {
        let document: ManifestDocument = read_document(row.get(5)?, &row.document(6)?)?;
        Ok(ImageRecord {
            id: text(row, 0)?.parse()?,
            owner: owner_of(row, 1)?,
            created_at: Timestamp(row.get(4)?),
            manifest: document.into(),
            case_twins: unsigned(row, 7, "case_twins")?,
        })
    })
}

/// All names of images, by owner and name.
pub(crate) fn names(database: &dyn Database) -> Result<Vec<ImageNameRow>, StoreError> {
    let rows = Rows {
        database,
        table: "image_names",
        act: "read the names of images",
    };
    let sql = "SELECT name, domain, project, user_name, image_id FROM image_names
               ORDER BY domain, project, user_name, name";
    rows.all(sql, values![], |row| {
        Ok(ImageNameRow {
            name: text(row, 0)?.parse()?,
            owner: owner_of(row, 1)?,
            image: text(row, 4)?.parse()?,
        })
    })
}

fn owner_of(row: &dyn Columns, place: usize) -> Result<Owner, RowError> {
    Ok(Owner {
        domain: text(row, place)?,
        project: text(row, place + 1)?,
        user: text(row, place + 2)?,
    })
}
