//! What is on its way to the disk: a leader steps on while a commit is made.
//!
//! One transaction is in flight at a time, on a thread of its own. What is stepped meanwhile waits
//! in a line and goes together into the next one. Batches come back in the order in which they were
//! put in, each with the commit that made it durable. Where a commit failed, or nobody knows whether
//! it did, none of what stands behind it is tried: it was stepped from a memory that holds what is
//! not in the store. All of it comes back as failed, and the caller drops that memory.
//!
//! The store travels with its commit. Who wants something else of it waits until it is back, so
//! there is no second way to it, and no look at it falls between two halves of anything.

use crate::error::CommitError;
use crate::store::Store;
use lifecycle::rows::RowChange;
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Most commands of one step: what a step takes is what a tick or a word from a node waits for.
pub const BATCH_LIMIT: usize = 512;
/// While a commit is in flight, so many commands are worth a step; fewer wait until it is made, and
/// for more to come. Each step tells nodes their sets anew.
const STEP_AT: usize = 128;
/// Commands behind a commit in flight after which no further ones are stepped.
const LINE_LIMIT: usize = 2_048;

/// What is put in line: some rows, perhaps none, and whatever the caller wants back with them.
pub trait Batch {
    /// Its rows. They are taken out for the commit, and put back before it is handed over.
    fn rows(&mut self) -> &mut Vec<RowChange>;

    /// Of how many commands it was made.
    fn commands(&self) -> usize;
}

/// Batches on their way to the disk.
#[derive(Debug)]
pub struct Line<B> {
    /// Absent while a commit is in flight.
    store: Option<Box<dyn Store>>,
    /// What the transaction in flight is made of, with the number of rows of each.
    flying: Vec<(B, usize)>,
    waiting: VecDeque<B>,
    to_disk: Option<SyncSender<Flight>>,
    from_disk: Receiver<Landed>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Flight {
    store: Box<dyn Store>,
    rows: Vec<RowChange>,
}

#[derive(Debug)]
struct Landed {
    store: Box<dyn Store>,
    rows: Vec<RowChange>,
    result: Result<Option<u64>, CommitError>,
    took: Duration,
}

/// What became of a transaction.
#[derive(Debug)]
pub enum Outcome<B> {
    /// It is on the disk, as one commit; `None` if there were no rows.
    Made {
        /// What it was made of, in order.
        batches: Vec<B>,
        /// The commit's number.
        commit: Option<u64>,
        /// How long the store had it.
        took: Duration,
    },
    /// It is not, or nobody knows.
    Failed {
        /// What it was made of, and all that stood behind it, in order.
        batches: Vec<B>,
        /// Why.
        error: CommitError,
    },
}

/// The line's thread cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the store's thread")]
pub struct LineError(#[from] std::io::Error);

impl<B: Batch> Line<B> {
    /// A line before `store`. `landed` is called on the store's thread whenever a commit has been
    /// made or has failed, `began` once, before the first.
    pub fn new(
        store: Box<dyn Store>,
        began: impl FnOnce() + Send + 'static,
        landed: impl Fn() + Send + 'static,
    ) -> Result<Self, LineError> {
        let (to_disk, flights) = sync_channel::<Flight>(1);
        let (results, from_disk) = sync_channel(1);
        let commits = move || {
            began();
            for Flight { mut store, rows } in flights {
                let begun = Instant::now();
                let result = store.commit(&rows).map(Some);
                let back = Landed {
                    store,
                    rows,
                    result,
                    took: begun.elapsed(),
                };
                if results.send(back).is_err() {
                    break;
                }
                landed();
            }
        };
        let thread = std::thread::Builder::new().name("store".to_owned());
        Ok(Self {
            store: Some(store),
            flying: Vec::new(),
            waiting: VecDeque::new(),
            to_disk: Some(to_disk),
            from_disk,
            thread: Some(thread.spawn(commits)?),
        })
    }

    /// A commit is in flight.
    pub fn is_flying(&self) -> bool {
        self.store.is_none()
    }

    /// Nothing is in flight and nothing waits.
    pub fn is_at_rest(&self) -> bool {
        self.store.is_some() && self.waiting.is_empty()
    }

    /// The store, unless a commit is in flight.
    pub fn store(&mut self) -> Option<&mut dyn Store> {
        self.store
            .as_mut()
            .map(|store| store.as_mut() as &mut dyn Store)
    }

    /// Puts a batch behind all others. It goes to the disk with the next [`Line::depart`].
    pub fn put(&mut self, batch: B) {
        self.waiting.push_back(batch);
    }

    /// What waits for the next commit, in order.
    pub fn waiting(&self) -> impl Iterator<Item = &B> {
        self.waiting.iter()
    }

    /// As much waits behind a commit as may.
    pub fn is_full(&self) -> bool {
        self.waiting.iter().map(Batch::commands).sum::<usize>() >= LINE_LIMIT
    }

    /// So many commands are worth a step now.
    pub fn is_worth_a_step(&self, commands: usize) -> bool {
        let least = if self.is_flying() { STEP_AT } else { 1 };
        commands >= least && !self.is_full()
    }

    /// Has all that waits committed in one transaction, unless one is in flight. Where there are no
    /// rows nothing is committed, and the outcome is returned at once.
    pub fn depart(&mut self) -> Option<Outcome<B>> {
        if self.waiting.is_empty() {
            return None;
        }
        let store = self.store.take()?;
        let mut rows = Vec::new();
        for mut batch in self.waiting.drain(..) {
            let own = batch.rows();
            let count = own.len();
            if rows.is_empty() {
                std::mem::swap(&mut rows, own);
            } else {
                rows.append(own);
            }
            self.flying.push((batch, count));
        }
        if rows.is_empty() {
            self.store = Some(store);
            let batches = self.flying.drain(..).map(|(batch, _)| batch);
            return Some(Outcome::Made {
                batches: batches.collect(),
                commit: None,
                took: Duration::ZERO,
            });
        }
        let to_disk = self.to_disk.as_ref().expect("there until it is dropped");
        let sent = to_disk.send(Flight { store, rows });
        assert!(sent.is_ok(), "the store's thread has ended");
        None
    }

    /// The outcome of the commit in flight, if there is one already.
    pub fn landed(&mut self) -> Option<Outcome<B>> {
        if !self.is_flying() {
            return None;
        }
        match self.from_disk.try_recv() {
            Ok(landed) => Some(self.take_back(landed)),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => panic!("the store's thread has ended"),
        }
    }

    /// The same, within `limit`.
    pub fn landed_within(&mut self, limit: Duration) -> Option<Outcome<B>> {
        if !self.is_flying() {
            return None;
        }
        match self.from_disk.recv_timeout(limit) {
            Ok(landed) => Some(self.take_back(landed)),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => panic!("the store's thread has ended"),
        }
    }

    /// The same, however long that takes; `None` if nothing is in flight.
    pub fn wait(&mut self) -> Option<Outcome<B>> {
        if !self.is_flying() {
            return None;
        }
        let landed = self.from_disk.recv();
        Some(self.take_back(landed.expect("the store's thread has ended")))
    }

    fn take_back(&mut self, landed: Landed) -> Outcome<B> {
        self.store = Some(landed.store);
        let mut rows = landed.rows;
        let flown = std::mem::take(&mut self.flying);
        let mut batches: Vec<B> = Vec::with_capacity(flown.len());
        if let [_] = flown.as_slice() {
            batches.extend(flown.into_iter().map(|(mut batch, _)| {
                *batch.rows() = std::mem::take(&mut rows);
                batch
            }));
        } else {
            let mut rows = rows.into_iter();
            batches.extend(flown.into_iter().map(|(mut batch, count)| {
                batch.rows().extend(rows.by_ref().take(count));
                batch
            }));
        }
        match landed.result {
            Ok(commit) => Outcome::Made {
                batches,
                commit,
                took: landed.took,
            },
            Err(error) => {
                batches.extend(self.waiting.drain(..));
                Outcome::Failed { batches, error }
            }
        }
    }
}

impl<B> Drop for Line<B> {
    /// Waits for a commit in flight.
    fn drop(&mut self) {
        drop(self.to_disk.take());
        let thread = self.thread.take();
        // A panic of the thread was told where its answer was awaited.
        let _ended = thread.map(JoinHandle::join);
    }
}

#[cfg(test)]
mod tests;
