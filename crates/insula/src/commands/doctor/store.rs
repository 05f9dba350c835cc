//! Where the site's state is kept, and whether it can be reached.

use super::Check;
use crate::settings::Settings;
use database::{OpenError, PostgresProbe};

/// Looks at the store; changes nothing.
pub(super) async fn check(settings: &Settings) -> Check {
    let Some(address) = settings.config.store.clone() else {
        let path = settings.home.join("site.db");
        let found = match path.metadata() {
            Ok(_) => format!("SQLite, {}", path.display()),
            Err(_) => format!("SQLite, {} (not there yet)", path.display()),
        };
        return Check::ok("store", found);
    };
    let shown = address.to_string();
    let settings = settings.clone();
    // It has a runtime of its own, which cannot be within this one.
    let looking = tokio::task::spawn_blocking(move || crate::serve::probe(&settings, &address));
    let looked = match looking.await {
        Ok(looked) => looked,
        Err(error) => Err(error.into()),
    };
    match looked {
        Ok(probe) => found(&probe, &shown),
        Err(error) => {
            let hint = error.downcast_ref::<OpenError>().and_then(OpenError::hint);
            let remedy = hint.unwrap_or("see `site.store` in `insula config`");
            Check::fail("store", format!("{error:#}"), remedy)
        }
    }
}

fn found(probe: &PostgresProbe, shown: &str) -> Check {
    let leader = match &probe.leader {
        Some(leader) => format!("{leader} leads"),
        None => "nobody leads".to_owned(),
    };
    let found = format!("PostgreSQL {}, {shown}; {leader}", probe.version);
    if probe.is_durable {
        Check::ok("store", found)
    } else {
        let remedy = "set `fsync = on` at the server: a crash of its machine loses commits now";
        Check::warn("store", found, remedy)
    }
}
