//! Files of an array's elements, those of each into a directory named like its index.

use super::fetch::{Fetch, Fetched, fetch};
use super::place::{Limits, Returned};
use crate::daemon::Site;
use crate::failure::Failure;
use crate::pack::Manifest;
use crate::printer::shown;
use futures::StreamExt as _;
use public_api::{ElementView, FilesQuery};
use std::path::{Path, PathBuf};

/// Elements whose files come at the same time.
const AT_ONCE: usize = 4;

/// Which files of every element, and where to put them.
#[derive(Clone, Debug)]
pub(crate) struct FetchElements {
    /// The array's name.
    pub(crate) array: String,
    /// Which files of each.
    pub(crate) query: FilesQuery,
    /// The directory in which each has one; it exists.
    pub(crate) directory: PathBuf,
    /// How much may come of each; all if absent.
    pub(crate) limits: Option<Limits>,
}

/// What became of the files of one element.
#[derive(Debug)]
pub(crate) struct FromElement {
    /// Its index.
    pub(crate) index: u32,
    /// Its name.
    pub(crate) name: String,
    /// What came, or why nothing did.
    pub(crate) result: Result<Fetched, Failure>,
}

/// Fetches the files of all elements that have run, by index. An element that cannot be fetched
/// does not keep the others from it; a signal ends it for all.
pub(crate) async fn fetch_elements(
    site: &Site,
    order: &FetchElements,
    elements: &[ElementView],
) -> Vec<FromElement> {
    let ran = elements
        .iter()
        .filter(|element| element.started_at.is_some());
    let mut coming = futures::stream::iter(ran)
        .map(|element| async move {
            let result = Box::pin(one(site, order, element)).await;
            FromElement {
                index: element.index,
                name: format!("{}.{}", order.array, element.index),
                result,
            }
        })
        .buffered(AT_ONCE);
    let mut all = Vec::new();
    while let Some(from) = coming.next().await {
        let interrupted = matches!(from.result, Ok(Fetched::Interrupted { .. }));
        all.push(from);
        if interrupted {
            break;
        }
    }
    all
}

async fn one(
    site: &Site,
    order: &FetchElements,
    element: &ElementView,
) -> Result<Fetched, Failure> {
    let directory = order.directory.join(element.index.to_string());
    std::fs::create_dir_all(&directory).map_err(|error| {
        Failure::from(error).context(format!("cannot make {}", shown(&directory)))
    })?;
    let fetched = fetch(
        site,
        Fetch {
            session: element.id.clone(),
            session_name: format!("{}.{}", order.array, element.index),
            query: order.query.clone(),
            directory: directory.clone(),
            sent: Manifest::new(),
            limits: order.limits,
        },
    )
    .await;
    // One that left no file needs no directory; refused where there is something in it.
    let _ = std::fs::remove_dir(&directory);
    fetched
}

/// What came from all of them, with the element's directory before each path.
pub(crate) fn together(all: &[FromElement]) -> Returned {
    let mut sum = Returned::default();
    for from in all {
        let Ok(Fetched::Done(returned)) = &from.result else {
            continue;
        };
        let own = from.index.to_string();
        let below = |path: &PathBuf| Path::new(&own).join(path);
        sum.written.extend(returned.written.iter().map(below));
        sum.skipped.extend(
            returned
                .skipped
                .iter()
                .map(|(path, reason)| (below(path), *reason)),
        );
        sum.beside
            .extend(returned.beside.iter().cloned().map(|mut beside| {
                beside.path = below(&beside.path);
                beside.other = below(&beside.other);
                beside
            }));
    }
    sum
}
