//! The site's store: a file of SQLite, or PostgreSQL, for whose lease this may have to wait.

use super::{machine, random};
use crate::settings::Settings;
use anyhow::Context;
use database::{
    LeaderPlace, OpenOptions, PostgresAddress, PostgresOptions, PostgresProbe, PostgresStore,
    SqliteStore, Standing, Store,
};
use domain::{NodeId, SiteId};
use manager::api::Door;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

/// Between two looks whether the lease is free.
const LOOK_PAUSE: Duration = Duration::from_millis(500);
/// What the home keeps of a database of PostgreSQL, to know an older copy of it.
const SERVER_MARK_FILE: &str = "postgres.mark";
/// Longest file with a password, in bytes.
const PASSWORD_LIMIT_BYTES: u64 = 4_096;

/// The store, and whether this manager leads.
pub(super) enum Opened {
    Leads(Box<dyn Store>),
    StandsBy(Box<PostgresStore>, LeaderPlace),
}

/// Opens what `site.store` names, and takes the lease if it is free. `listens` is where this
/// manager is reached.
pub(super) async fn open(settings: &Settings, listens: Option<String>) -> anyhow::Result<Opened> {
    let Some(address) = &settings.config.store else {
        let now = machine::wall_clock();
        let options = OpenOptions {
            new_site: SiteId::new(now, random()?),
            reserve_bytes: database::DEFAULT_RESERVE_BYTES,
            now,
        };
        let store = SqliteStore::open(&settings.home.join("site.db"), options)?;
        return Ok(Opened::Leads(Box::new(store)));
    };
    // The home's lock is held: whoever had the lease from here before is gone.
    let own = NodeId::new(machine::wall_clock(), random()?);
    let own = agent::node_identity(&settings.home.join("node"), own)?;
    let options = options(settings, address, listens)?
        .succeeding(own.to_string())
        .marked(settings.home.join(SERVER_MARK_FILE));
    // It has a runtime of its own, which cannot be within this one.
    let opening = tokio::task::spawn_blocking(move || {
        let mut store = PostgresStore::open(options)?;
        anyhow::Ok(match store.try_lead()? {
            Standing::Leads => Opened::Leads(Box::new(store)),
            Standing::StandsBy(leader) => Opened::StandsBy(Box::new(store), leader),
        })
    });
    opening.await.context("the store's thread ended early")?
}

/// Waits until this manager leads, and tells at the door who does meanwhile.
pub(super) async fn stand_by(
    mut store: Box<PostgresStore>,
    door: &Door,
) -> anyhow::Result<Box<dyn Store>> {
    loop {
        tokio::time::sleep(LOOK_PAUSE).await;
        let asking = tokio::task::spawn_blocking(move || {
            let standing = store.try_lead();
            (store, standing)
        });
        let (asked, standing) = asking.await.context("the store's thread ended early")?;
        store = asked;
        match standing {
            Ok(Standing::Leads) => return Ok(store),
            Ok(Standing::StandsBy(leader)) => door.tell(leader.to_string()),
            // Nobody can lead without it; it is tried again.
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot look who leads the site"
            ),
        }
    }
}

/// Looks at the PostgreSQL of `site.store` from outside. Blocks.
pub(crate) fn probe(
    settings: &Settings,
    address: &PostgresAddress,
) -> anyhow::Result<PostgresProbe> {
    Ok(database::probe(&options(settings, address, None)?)?)
}

fn options(
    settings: &Settings,
    address: &PostgresAddress,
    listens: Option<String>,
) -> anyhow::Result<PostgresOptions> {
    let mut address = address.clone();
    if let Some(path) = &settings.config.store_password_file {
        address = address.with_password(&password(path)?);
    }
    if let Some(path) = &settings.config.store_ca_file {
        let named = address.with_authorities(path.clone());
        address = named.map_err(|error| {
            let hint = error.hint();
            anyhow::anyhow!("`site.store` cannot be used: {error}; {hint}")
        })?;
    }
    let now = machine::wall_clock();
    let site = (SiteId::new(now, random()?), now);
    let place = format!("{}:{}", machine::host_name(), settings.home.display());
    PostgresOptions::new(address, site, (place, listens)).context("the kernel gave no random bytes")
}

fn password(path: &Path) -> anyhow::Result<String> {
    let told = || {
        format!(
            "cannot read {} (`site.store-password-file`)",
            path.display()
        )
    };
    let file = std::fs::File::open(path).with_context(told)?;
    let mut text = String::new();
    file.take(PASSWORD_LIMIT_BYTES)
        .read_to_string(&mut text)
        .with_context(told)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
