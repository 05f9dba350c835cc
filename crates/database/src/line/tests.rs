//! Batches behind a store that commits when it is let.

use super::{Batch, Line, Outcome};
use crate::error::{CommitError, StoreError};
use crate::store::{
    ArrayHistoryQuery, ElementCount, ElementScope, EventScope, HistoryQuery, PruneReport,
    Retention, Room, Store,
};
use crate::tests::sample::event;
use domain::{ArrayId, ArrayRecord, Owner, SessionId, SessionName, SessionRecord, Timestamp};
use lifecycle::rows::{IdempotencyRow, Loaded, RowChange, SiteEvent};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};

/// A store that commits when it is let, and tells what it was given.
#[derive(Debug)]
struct Gate {
    /// Whether the next commit is made.
    lets: Receiver<bool>,
    given: SyncSender<Vec<RowChange>>,
    commits: u64,
}

impl Store for Gate {
    fn commit(&mut self, batch: &[RowChange]) -> Result<u64, CommitError> {
        self.given.send(batch.to_vec()).expect("the test listens");
        if !self.lets.recv().expect("the test says") {
            let source = StoreError::NoSite;
            return Err(CommitError::Unknown { source });
        }
        self.commits += 1;
        Ok(self.commits)
    }

    fn last_commit(&mut self) -> Result<u64, StoreError> {
        Ok(self.commits)
    }

    fn load(&mut self, _: Timestamp, _: Timestamp) -> Result<Loaded, StoreError> {
        Err(StoreError::NoSite)
    }

    fn history(&mut self, _: &HistoryQuery) -> Result<Vec<SessionRecord>, StoreError> {
        Err(StoreError::NoSite)
    }

    fn session(&mut self, _: SessionId) -> Result<Option<SessionRecord>, StoreError> {
        Err(StoreError::NoSite)
    }

    fn arrays(&mut self, _: &ArrayHistoryQuery) -> Result<Vec<ArrayRecord>, StoreError> {
        Err(StoreError::NoSite)
    }

    fn array(&mut self, _: ArrayId) -> Result<Option<ArrayRecord>, StoreError> {
        Err(StoreError::NoSite)
    }

    fn elements(
        &mut self,
        _: ArrayId,
        _: ElementScope,
        _: u32,
    ) -> Result<Vec<SessionRecord>, StoreError> {
        Err(StoreError::NoSite)
    }

    fn count_elements(&mut self, _: ArrayId) -> Result<Vec<ElementCount>, StoreError> {
        Err(StoreError::NoSite)
    }

    fn sessions_named(
        &mut self,
        _: &Owner,
        _: &SessionName,
        _: u32,
    ) -> Result<Vec<SessionRecord>, StoreError> {
        Err(StoreError::NoSite)
    }

    fn made_by(
        &mut self,
        _: &str,
        _: &str,
        _: Timestamp,
    ) -> Result<Option<IdempotencyRow>, StoreError> {
        Err(StoreError::NoSite)
    }

    fn events(&mut self, _: EventScope, _: u64, _: u32) -> Result<Vec<SiteEvent>, StoreError> {
        Err(StoreError::NoSite)
    }

    fn first_event_since(&mut self, _: Timestamp) -> Result<Option<u64>, StoreError> {
        Err(StoreError::NoSite)
    }

    fn prune(&mut self, _: &Retention, _: Timestamp) -> Result<PruneReport, StoreError> {
        Err(StoreError::NoSite)
    }

    fn room(&mut self) -> Result<Room, StoreError> {
        Ok(Room::Elsewhere)
    }
}

/// Events with these numbers.
#[derive(Debug, PartialEq)]
struct Numbers(&'static str, Vec<RowChange>);

impl Batch for Numbers {
    fn rows(&mut self) -> &mut Vec<RowChange> {
        &mut self.1
    }

    fn commands(&self) -> usize {
        self.1.len()
    }
}

fn batch(name: &'static str, numbers: &[u64]) -> Numbers {
    Numbers(name, rows(numbers))
}

fn rows(numbers: &[u64]) -> Vec<RowChange> {
    numbers.iter().map(|number| event(*number, None)).collect()
}

struct Test {
    line: Line<Numbers>,
    lets: std::sync::mpsc::Sender<bool>,
    given: Receiver<Vec<RowChange>>,
    woken: Receiver<()>,
}

fn line() -> Test {
    let (lets, gate) = channel();
    let (give, given) = sync_channel(16);
    let (wake, woken) = channel();
    let store = Gate {
        lets: gate,
        given: give,
        commits: 0,
    };
    let landed = move || wake.send(()).expect("the test listens");
    let line = Line::new(Box::new(store), || (), landed).expect("a thread");
    Test {
        line,
        lets,
        given,
        woken,
    }
}

fn made(outcome: Option<Outcome<Numbers>>, names: &[Numbers], number: Option<u64>) {
    let Some(Outcome::Made {
        batches, commit, ..
    }) = outcome
    else {
        panic!("{outcome:?}");
    };
    assert_eq!((batches.as_slice(), commit), (names, number));
}

#[test]
fn what_is_stepped_during_a_commit_goes_together_into_the_next_in_order() {
    let mut test = line();
    test.line.put(batch("first", &[1, 2]));
    assert!(test.line.depart().is_none() && test.line.is_flying());
    assert_eq!(test.given.recv(), Ok(rows(&[1, 2])));
    for next in [
        batch("second", &[3]),
        batch("none", &[]),
        batch("third", &[4, 5]),
    ] {
        test.line.put(next);
        assert!(test.line.depart().is_none(), "one is in flight");
    }
    assert!(test.line.landed().is_none() && test.line.store().is_none());
    assert!(test.given.try_recv().is_err(), "one at a time");
    test.lets.send(true).expect("it waits");
    test.woken.recv().expect("woken when it has landed");
    made(test.line.landed(), &[batch("first", &[1, 2])], Some(1));

    assert!(!test.line.is_flying() && !test.line.is_at_rest());
    assert!(test.line.depart().is_none());
    assert_eq!(test.given.recv(), Ok(rows(&[3, 4, 5])), "one transaction");
    test.lets.send(true).expect("it waits");
    let all = [
        batch("second", &[3]),
        batch("none", &[]),
        batch("third", &[4, 5]),
    ];
    made(test.line.wait(), &all, Some(2));
    assert!(test.line.is_at_rest() && test.line.wait().is_none());
}

#[test]
fn a_commit_that_fails_takes_along_all_that_was_stepped_behind_it() {
    let mut test = line();
    test.line.put(batch("first", &[1]));
    assert!(test.line.depart().is_none());
    test.line.put(batch("second", &[2]));
    test.line.put(batch("none", &[]));
    test.lets.send(false).expect("it waits");
    let outcome = test.line.wait();
    let Some(Outcome::Failed { batches, error }) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(matches!(error, CommitError::Unknown { .. }), "{error:?}");
    let all = [
        batch("first", &[1]),
        batch("second", &[2]),
        batch("none", &[]),
    ];
    assert_eq!(batches, all);
    assert!(test.line.is_at_rest() && test.line.depart().is_none());
    assert_eq!(test.given.recv(), Ok(rows(&[1])));
    assert!(test.given.try_recv().is_err(), "nothing else was tried");
    // It goes on with what the caller steps from a memory that was made anew.
    test.line.put(batch("next", &[2]));
    test.lets.send(true).expect("it waits");
    assert!(test.line.depart().is_none());
    made(test.line.wait(), &[batch("next", &[2])], Some(1));
}

#[test]
fn what_has_no_rows_needs_no_commit_but_waits_for_the_one_before() {
    let mut test = line();
    test.line.put(batch("none", &[]));
    made(test.line.depart(), &[batch("none", &[])], None);
    test.line.put(batch("first", &[1]));
    assert!(test.line.depart().is_none());
    test.line.put(batch("none", &[]));
    assert!(
        test.line.depart().is_none(),
        "it may tell of what the first did"
    );
    test.lets.send(true).expect("it waits");
    made(test.line.wait(), &[batch("first", &[1])], Some(1));
    made(test.line.depart(), &[batch("none", &[])], None);
    assert_eq!(test.given.recv(), Ok(rows(&[1])));
    assert!(test.given.try_recv().is_err());
}

#[test]
fn few_commands_wait_for_a_commit_in_flight_and_a_full_line_takes_none() {
    let mut test = line();
    assert!(test.line.is_worth_a_step(1) && !test.line.is_worth_a_step(0));
    test.line.put(batch("first", &[1]));
    assert!(test.line.depart().is_none());
    assert!(!test.line.is_worth_a_step(super::STEP_AT - 1));
    assert!(test.line.is_worth_a_step(super::STEP_AT));
    let most = u64::try_from(super::LINE_LIMIT).expect("small");
    let all: Vec<u64> = (2..2 + most).collect();
    test.line.put(batch("most", &all));
    assert!(test.line.is_full() && !test.line.is_worth_a_step(super::BATCH_LIMIT));
    test.lets.send(true).expect("it waits");
    made(test.line.wait(), &[batch("first", &[1])], Some(1));
    assert!(test.line.depart().is_none() && !test.line.is_full());
    test.lets.send(true).expect("it waits");
    made(test.line.wait(), &[batch("most", &all)], Some(2));
}
