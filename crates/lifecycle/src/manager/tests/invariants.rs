//! What must hold of arrays, further attempts and waiting, whatever happened.

use crate::manager::names::Names;
use crate::manager::waiting::{Turn, waits};
use crate::manager::{Holder, RETRY_LIMIT, Site, View, required_rows};
use domain::{
    ArrayId, DependencyState, DependencyTarget, Intention, MemberPause, MemberState, SessionId,
    SessionRecord, SessionState,
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Checks every session's attempts and what it waits for, and the indexes over that.
pub(super) fn check_waiting(site: &Site, view: &View) {
    for record in site.sessions() {
        check_attempts(site, record);
        check_dependencies(site, record);
        check_indexed(site, record);
    }
    let shown: Vec<_> = view.arrays().map(AsRef::as_ref).collect();
    assert_eq!(
        site.arrays().collect::<Vec<_>>(),
        shown,
        "every change of an array is a row"
    );
    let mut names = Names::default();
    let living = site.sessions().filter(|record| record.state.is_living());
    for record in living {
        let holder = match record.array {
            Some((array, _)) => Holder::Array(array),
            None => Holder::Session(record.id),
        };
        names.put(&record.owner, &record.name, holder);
    }
    assert_eq!(site.names, names, "names are those of what lives");
}

/// Only what runs stands still, and only where it was asked for in this attempt.
pub(super) fn check_pauses(record: &SessionRecord) {
    let runs = record.state == SessionState::Running && record.intention == Intention::Run;
    assert!(record.pause.is_none() || runs, "{record:?}");
    for member in record.all_members() {
        let runs = matches!(member.state, MemberState::Running { .. });
        assert!(runs || member.pause == MemberPause::Off, "{member:?}");
    }
}

fn check_attempts(site: &Site, record: &SessionRecord) {
    let retry = record.retry;
    assert!(retry.used <= retry.limit && retry.limit <= RETRY_LIMIT);
    let over = record.attempt - u32::from(!record.members.is_empty());
    let past: Vec<u32> = record.past.iter().map(|past| past.attempt).collect();
    assert!(past.iter().all(|attempt| *attempt <= over));
    assert!(past.is_sorted_by(|one, other| one < other));
    // What a restored store has lost, nobody can tell.
    if site.row().restored_epoch == 0 {
        let all: Vec<u32> = (1..=over).collect();
        assert_eq!(past, all, "each is told once");
    }
    assert!(record.former.iter().all(|member| member.id.attempt <= over));
    assert!(!record.former.iter().any(|member| member.state.occupies()));
    let ids: Vec<_> = record.all_members().map(|member| member.id).collect();
    assert!(
        ids.is_sorted_by(|one, other| one < other),
        "none is there twice"
    );
    if retry.at.is_some() {
        assert_eq!(record.state, SessionState::Pending);
        assert!(over > 0);
    }
}

fn check_dependencies(site: &Site, record: &SessionRecord) {
    if !record.members.is_empty() {
        assert!(!record.is_held_back(), "it does not start early");
    }
    if record.failed_dependency().is_some() {
        assert!(!record.state.is_living(), "it does not wait for ever");
    }
    let lives = |id: &SessionId| {
        site.session(*id)
            .is_some_and(|other| other.state.is_living())
    };
    for dependency in &record.after {
        let waits = dependency.state == DependencyState::Waiting;
        let living = match dependency.on {
            DependencyTarget::Session(id) => lives(&id),
            DependencyTarget::Array(id) => {
                site.elements(id).any(|element| element.state.is_living())
            }
        };
        assert!(
            !waits || living || !record.state.is_living(),
            "what it waits for may still come"
        );
    }
}

/// No step gives a place to one while another that asks for the same waits for one and goes first.
pub(super) fn check_order(site: &Site, before: &BTreeMap<SessionId, SessionRecord>) {
    let asks = |record: &SessionRecord| {
        let spec = &record.spec;
        (spec.slots.clone(), spec.members, required_rows(spec))
    };
    // Not by what the core takes for the order.
    let order = |one: &SessionRecord| (Reverse(one.priority), one.created_at, one.id);
    let restored = site.row().restored_epoch;
    let had_none = |record: &SessionRecord| {
        let old = before.get(&record.id);
        old.is_none_or(|old| old.members.is_empty() || old.attempt < record.attempt)
    };
    // One that is found in a restored site is taken up, whoever waits.
    let placed = site
        .sessions()
        .filter(|record| !record.members.is_empty() && had_none(record) && record.epoch > restored);
    let placed: Vec<&SessionRecord> = placed.collect();
    let has_room = |record: &SessionRecord| {
        let array = record.array.and_then(|(array, _)| site.array(array));
        let limit = array.and_then(|array| array.throttle);
        limit.is_none_or(|limit| array.is_some_and(|array| site.placed_of(array.id) < limit))
    };
    let waiting = site.sessions().filter(|record| {
        waits(record)
            && !record.is_held_back()
            && record.retry.at.is_none()
            && record.epoch > restored
            && has_room(record)
    });
    for waits in waiting {
        let mut overtaking = placed.iter().filter(|one| order(one) > order(waits));
        let overtakes = overtaking.find(|one| asks(one) == asks(waits));
        assert!(
            overtakes.is_none(),
            "{waits:?} is overtaken by {overtakes:?}"
        );
    }
}

/// A session stands in exactly the index where it belongs.
fn check_indexed(site: &Site, record: &SessionRecord) {
    let id = record.id;
    let waiting = &site.waiting;
    let waits = waits(record);
    let paused = waits && record.retry.at.is_some();
    let held_back = waits && !paused && record.is_held_back();
    let placeable = waits && !paused && !held_back;
    if let Some((array, _)) = record.array.filter(|_| record.state.is_living()) {
        let array = site
            .array(array)
            .expect("it is there as long as its elements");
        assert_eq!(
            record.priority, array.priority,
            "elements have their array's"
        );
    }
    assert_eq!(waiting.paused.iter().any(|(_, other)| *other == id), paused);
    assert_eq!(
        waiting.dependents.values().any(|set| set.contains(&id)),
        held_back
    );
    let mut alone = waiting.alone.values().flatten();
    let is_alone = alone.any(|turn| *turn == Turn::of(record));
    assert_eq!(is_alone, placeable && record.array.is_none());
    let in_array = waiting
        .elements
        .values()
        .any(|set: &BTreeSet<_>| set.contains(&id));
    assert_eq!(in_array, placeable && record.array.is_some());
    assert_eq!(site.living.contains(&id), record.state.is_living());
}

/// The elements of each array that live on nodes.
pub(super) type Placed = BTreeMap<ArrayId, BTreeSet<SessionId>>;

pub(super) fn placed<'a>(records: impl Iterator<Item = &'a SessionRecord>) -> Placed {
    let mut placed = Placed::new();
    let living = records.filter(|record| record.state.is_living());
    for record in living.filter(|record| !record.members.is_empty()) {
        if let Some((array, _)) = record.array {
            placed.entry(array).or_default().insert(record.id);
        }
    }
    placed
}

/// No step places more elements of an array than its throttle lets; returns which are placed.
pub(super) fn check_throttles(site: &Site, before: &Placed) -> Placed {
    let placed = placed(site.sessions());
    let none = BTreeSet::new();
    for array in site.arrays() {
        let now = placed.get(&array.id).unwrap_or(&none);
        let before = before.get(&array.id).unwrap_or(&none);
        // One that is found is taken up, whether or not its node has told yet that the one before it
        // has ended.
        let epoch = |id: &SessionId| site.session(*id).map_or(0, |record| record.epoch);
        let come = now.difference(before);
        let found = come.filter(|id| epoch(id) <= site.row().restored_epoch);
        let found = found.count();
        // A throttle that was lowered is reached as elements end.
        let throttle = array
            .throttle
            .map(|limit| usize::try_from(limit).expect("small"));
        let limit = throttle.map(|limit| limit.max(before.len()) + found);
        assert!(
            limit.is_none_or(|limit| now.len() <= limit),
            "{now:?} of {}, and before {before:?}",
            array.name
        );
    }
    placed
}
