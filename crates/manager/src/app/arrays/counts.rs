//! How many elements of an array are where.

use crate::app::SiteService;
use crate::app::arrays::show::array_view;
use database::ElementCount;
use domain::{ArrayId, ArrayRecord, SessionState, Timestamp};
use lifecycle::manager::View;
use public_api::{ArrayView, Problem};
use std::collections::BTreeMap;
use std::sync::Arc;

impl SiteService {
    pub(crate) async fn show_one_array(
        &self,
        record: &Arc<ArrayRecord>,
    ) -> Result<ArrayView, Problem> {
        let mut shown = self.show_arrays(std::slice::from_ref(record)).await?;
        Ok(shown.pop().expect("one for each"))
    }

    /// Arrays with their counts: from the view where it has all elements, else from the store.
    pub(crate) async fn show_arrays(
        &self,
        records: &[Arc<ArrayRecord>],
    ) -> Result<Vec<ArrayView>, Problem> {
        let (mut counts, paused): (Vec<Option<Vec<ElementCount>>>, Vec<u32>) =
            self.manager.shared.read(|view| {
                let records = records.iter();
                let both =
                    records.map(|array| (counts_of(view, array.id), paused_of(view, array.id)));
                both.unzip()
            });
        let places = counts.iter().enumerate();
        let missing: Vec<(usize, ArrayId)> = places
            .filter(|(_, counts)| counts.is_none())
            .map(|(place, _)| (place, records[place].id))
            .collect();
        if !missing.is_empty() {
            let read = self.manager.leader.read(move |store| {
                let missing = missing.into_iter();
                let counted = missing.map(|(place, id)| Ok((place, store.count_elements(id)?)));
                counted.collect::<Result<Vec<_>, database::StoreError>>()
            });
            for (place, found) in read.await? {
                counts[place] = Some(found);
            }
        }
        let pairs = records.iter().zip(counts).zip(paused);
        Ok(pairs
            .map(|((record, counts), paused)| {
                array_view(record, &counts.unwrap_or_default(), paused)
            })
            .collect())
    }
}

/// How many elements stand still, as their nodes told: they run, so the view has them.
fn paused_of(view: &View, array: ArrayId) -> u32 {
    let elements = view.elements(array);
    let paused = elements.filter(|element| element.stands_still()).count();
    u32::try_from(paused).expect("an array has few elements")
}

/// The counts by the view; `None` if it has not all elements.
fn counts_of(view: &View, array: ArrayId) -> Option<Vec<ElementCount>> {
    if !view.has_all_elements(array) {
        return None;
    }
    type Key = (&'static str, Option<&'static str>);
    let mut counts: BTreeMap<Key, (u32, Option<Timestamp>)> = BTreeMap::new();
    for element in view.elements(array) {
        let outcome = match &element.state {
            SessionState::Ended { outcome } => Some(outcome.word()),
            SessionState::Pending
            | SessionState::Placed
            | SessionState::Preparing
            | SessionState::Starting
            | SessionState::Running
            | SessionState::Stopping => None,
        };
        let count = counts
            .entry((element.state.word(), outcome))
            .or_insert((0, None));
        count.0 += 1;
        count.1 = count.1.max(element.ended_at);
    }
    let counts = counts.into_iter();
    let counts = counts.map(|((state, outcome), (count, last_end))| ElementCount {
        state: state.to_owned(),
        outcome: outcome.map(str::to_owned),
        count,
        last_end,
    });
    Some(counts.collect())
}
