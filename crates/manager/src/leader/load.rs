//! Making a core from the store, at the start and after a commit that failed.

use crate::clock;
use crate::leader::Leader;
use crate::leader::batch::Stepped;
use crate::shared::{LeaderError, before};
use crate::uploads::Uploads;
use database::{CommitError, Store, StoreError};
use lifecycle::manager::{
    Effects, Event, EventKind, KEY_RETENTION_MS, OUTPUT_RETENTION_MS, Site, View,
};

/// A core made from a store, under a new epoch that is committed.
pub(crate) struct Opened {
    pub(crate) store: Box<dyn Store>,
    pub(crate) site: Site,
    pub(crate) view: View,
    pub(crate) commit: u64,
}

/// A store could not be taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeOverError {
    /// It cannot be read.
    #[error("cannot load the site")]
    Load(#[from] StoreError),
    /// The new epoch cannot be recorded.
    #[error("cannot record that this process leads")]
    Commit(#[from] CommitError),
}

impl TakeOverError {
    fn is_overtaken(&self) -> bool {
        match self {
            Self::Load(error) => error.is_overtaken(),
            Self::Commit(error) => error.is_overtaken(),
        }
    }
}

/// Takes over a store at the start.
pub(crate) fn open(mut store: Box<dyn Store>, uploads: &Uploads) -> Result<Opened, TakeOverError> {
    let taken = take_over(store.as_mut(), uploads)?;
    Ok(Opened {
        store,
        site: taken.site,
        view: taken.view,
        commit: taken.commit,
    })
}

struct Taken {
    site: Site,
    view: View,
    commit: u64,
    effects: Effects,
}

fn take_over(store: &mut dyn Store, uploads: &Uploads) -> Result<Taken, TakeOverError> {
    let now = clock::now();
    let ended_since = before(now.wall, OUTPUT_RETENTION_MS);
    let keys_since = before(now.wall, KEY_RETENTION_MS);
    let mut loaded = store.load(ended_since, keys_since)?;
    // A directory that cannot be read costs an early removal, nothing else.
    let staged = uploads.list().unwrap_or_default();
    loaded.uploads = staged.into_iter().map(|(upload, _)| upload).collect();
    let mut view = View::from_loaded(&loaded);
    let (site, effects) = Site::from_loaded(loaded, now);
    let commit = store.commit(&effects.rows)?;
    view.apply(&effects);
    for upload in &effects.unneeded_uploads {
        uploads.remove(*upload);
    }
    Ok(Taken {
        site,
        view,
        commit,
        effects,
    })
}

impl Leader {
    /// Makes the core anew if the last one was dropped, and introduces the nodes to it that are
    /// connected: their agents have noticed nothing.
    pub(super) fn ensure_site(&mut self) -> Result<(), LeaderError> {
        if self.site.is_some() {
            return Ok(());
        }
        let store = self.line.store();
        let store = store.expect("without a core nothing is in flight");
        let taken = take_over(store, &self.uploads).map_err(|error| {
            if error.is_overtaken() {
                self.shared.overtake(crate::shared::chain(&error));
                return LeaderError::Closed;
            }
            tracing::error!(error = %crate::shared::chain(&error), "cannot take the site over");
            match error {
                TakeOverError::Load(error) => LeaderError::of_store(&error),
                TakeOverError::Commit(error) => LeaderError::of_commit(&error),
            }
        })?;
        tracing::info!(
            commit = taken.commit,
            "the site was loaded anew after a failed commit"
        );
        self.shared
            .replace(taken.view, &taken.effects, taken.commit);
        self.site = Some(taken.site);
        let now = clock::now();
        let events = self.hellos.values().map(|hello| Event {
            now,
            kind: EventKind::NodeConnected {
                hello: Box::new(hello.clone()),
            },
        });
        let events = events.collect();
        let site = self.site.as_mut().expect("it was just made");
        self.line.put(Stepped::unasked(site.step_batch(events)));
        Ok(())
    }
}
