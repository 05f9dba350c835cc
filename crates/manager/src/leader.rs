//! The thread that leads: it alone owns the core and the store, and it alone changes anything.
//!
//! It takes what has queued up, steps the core through it, has all rows committed at once, and only
//! then lets anything out: the view, answers, what nodes are told, events. While a commit is made it
//! steps on, and what it steps goes into the next one ([`database::Line`]): batches are let out in
//! the order in which they were stepped. If a commit fails, or nobody knows whether it did, nothing
//! of it is let out, nor of what was stepped behind it; the core is dropped and made anew from the
//! store.

mod batch;
mod load;
mod outcome;
mod recall;
#[cfg(test)]
mod tests;

use crate::nodes::Nodes;
use crate::shared::{LeaderError, Shared, chain};
use crate::uploads::Uploads;
use batch::Stepped;
use database::{BATCH_LIMIT, Line, LineError, Store};
use domain::{ArrayId, ImageName, NodeId, Owner, PauseOrder, SessionId, SessionName, StopOrder};
use lifecycle::manager::{
    Answer, CreateArrayRequest, CreateRequest, EventKind, ImageTarget, NodeOrder, PriorityChange,
    Site, UnclaimedOrder,
};
use lifecycle::rows::ImageRecord;
use node_api::{Hello, Welcome};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};

pub(crate) use load::{Opened, open};

/// Most commands that wait for the leader; a sender waits beyond it.
const QUEUE_LIMIT: usize = 4_096;

/// A look at the store, done by the thread that owns it.
type StoreRead = Box<dyn FnOnce(&mut dyn Store) + Send>;

/// What the leader is asked to do.
pub(crate) enum Command {
    /// A user's request.
    Request {
        request: Request,
        reply: oneshot::Sender<Result<Answer, LeaderError>>,
    },
    /// An agent says hello.
    Hello {
        hello: Box<Hello>,
        reply: oneshot::Sender<Result<Welcome, LeaderError>>,
    },
    /// Something that nobody waits for.
    Note { event: EventKind },
    /// Looks at the store.
    Read { read: StoreRead },
    /// Nothing: a commit has been made, or has failed.
    Landed,
    /// Ends, after what came before.
    Close,
}

/// A user's request to the core.
#[derive(Debug)]
pub(crate) enum Request {
    Create(Box<CreateRequest>),
    Stop(SessionId, StopOrder),
    EndRetries(SessionId),
    Pause(SessionId, PauseOrder),
    Resume(SessionId, String),
    Remove(SessionId, StopOrder),
    EndUnclaimed(Box<UnclaimedOrder>),
    Rename(SessionId, SessionName),
    CreateArray(Box<CreateArrayRequest>),
    StopArray(ArrayId, StopOrder),
    PauseArray(ArrayId, PauseOrder),
    ResumeArray(ArrayId, String),
    RemoveArray(ArrayId, StopOrder),
    Throttle(ArrayId, Option<u32>),
    Prioritize(Box<PriorityChange>),
    AddImage(Box<ImageRecord>, Option<ImageName>),
    RemoveImage(Owner, ImageTarget),
    PruneImages(Owner),
    OrderNode(NodeId, Box<NodeOrder>),
}

/// The sending side.
#[derive(Clone, Debug)]
pub(crate) struct LeaderHandle {
    commands: mpsc::Sender<Command>,
}

impl LeaderHandle {
    /// Returns once the request's outcome is durable. Dropping the future does not take the
    /// request back.
    pub(crate) async fn request(&self, request: Request) -> Result<Answer, LeaderError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Request { request, reply }).await?;
        answer.await.map_err(|_| LeaderError::Closed)?
    }

    pub(crate) async fn hello(&self, hello: Hello) -> Result<Welcome, LeaderError> {
        let (reply, answer) = oneshot::channel();
        let hello = Box::new(hello);
        self.send(Command::Hello { hello, reply }).await?;
        answer.await.map_err(|_| LeaderError::Closed)?
    }

    pub(crate) async fn note(&self, event: EventKind) -> Result<(), LeaderError> {
        self.send(Command::Note { event }).await
    }

    /// Passes time on, unless the leader has more to do than it can: then it knows the time.
    pub(crate) fn tick(&self) {
        let event = EventKind::Tick;
        let _sent = self.commands.try_send(Command::Note { event });
    }

    /// Runs `read` on the store and returns what it found.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut dyn Store) -> Result<T, database::StoreError> + Send + 'static,
    ) -> Result<T, LeaderError> {
        let (reply, answer) = oneshot::channel();
        let read = Box::new(|store: &mut dyn Store| {
            // The asker may have gone.
            let _sent = reply.send(read(store));
        });
        self.send(Command::Read { read }).await?;
        let found = answer.await.map_err(|_| LeaderError::Closed)?;
        found.map_err(|error| LeaderError::of_store(&error))
    }

    /// Has the leader end once it has done what was asked before.
    pub(crate) async fn close(&self) {
        // A leader that has ended already is as good.
        let _sent = self.commands.send(Command::Close).await;
    }

    async fn send(&self, command: Command) -> Result<(), LeaderError> {
        let sent = self.commands.send_timeout(command, SEND_TIMEOUT).await;
        sent.map_err(|error| match error {
            mpsc::error::SendTimeoutError::Timeout(_) => LeaderError::Busy,
            mpsc::error::SendTimeoutError::Closed(_) => LeaderError::Closed,
        })
    }
}

/// Longest wait for a place in the leader's queue.
const SEND_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// The leader's own state.
pub(crate) struct Leader {
    /// The store, and what is on its way there.
    line: Line<Stepped>,
    /// `None` after a failed commit, until the store could be loaded. Then nothing is in the line.
    site: Option<Site>,
    shared: Arc<Shared>,
    nodes: Arc<Nodes>,
    uploads: Uploads,
    /// How the connected agents presented themselves, so that a core made anew knows them.
    hellos: BTreeMap<NodeId, Hello>,
    commands: mpsc::Receiver<Command>,
    next_token: u64,
    room: Room,
}

/// Whether there was room for new work when it was last looked at.
struct Room {
    looked_at: Option<Instant>,
    full: Option<LeaderError>,
}

impl Leader {
    /// A leader over what was opened, and how to reach it.
    pub(crate) fn new(
        opened: Opened,
        shared: Arc<Shared>,
        nodes: Arc<Nodes>,
        uploads: Uploads,
    ) -> Result<(Self, LeaderHandle), LineError> {
        let (sender, commands) = mpsc::channel(QUEUE_LIMIT);
        // Not one that keeps the leader alive when nobody else can ask any more.
        let wake = sender.downgrade();
        let landed = move || {
            if let Some(wake) = wake.upgrade() {
                // A full queue wakes it as well.
                let _sent = wake.try_send(Command::Landed);
            }
        };
        let leader = Self {
            line: Line::new(opened.store, || (), landed)?,
            site: Some(opened.site),
            shared,
            nodes,
            uploads,
            hellos: BTreeMap::new(),
            commands,
            next_token: 0,
            room: Room {
                looked_at: None,
                full: None,
            },
        };
        Ok((leader, LeaderHandle { commands: sender }))
    }

    fn is_overtaken(&self) -> bool {
        self.shared.overtaken().borrow().is_some()
    }

    /// Renews the lease when that is due; with a connection that was lost it loads the site anew.
    /// While a commit is in flight, or something waits for one, that renews it.
    fn keep_lease(&mut self) {
        let Some(store) = self.line.store() else {
            return;
        };
        let Err(error) = store.keep_lease() else {
            return;
        };
        if error.is_overtaken() {
            self.shared.overtake(chain(&error));
        } else if self.site.take().is_some() {
            tracing::warn!(error = %chain(&error), "the lease is not renewed");
        }
    }

    /// Leads until it is told to close, another manager leads, or nobody can ask any more. Runs on a
    /// thread of its own.
    pub(crate) fn lead(mut self) {
        self.look_at_room();
        let mut gathered = Vec::new();
        let mut is_open = true;
        while is_open && !self.is_overtaken() {
            is_open = self.gather(&mut gathered);
            if let Some(outcome) = self.line.landed() {
                self.conclude(outcome);
            }
            if self.line.is_worth_a_step(gathered.len()) {
                self.perform(std::mem::take(&mut gathered));
            }
        }
        if !self.is_overtaken() && !gathered.is_empty() {
            self.perform(gathered);
        }
        // Who still waits for an answer of one that was overtaken is told that there is none.
        if !self.is_overtaken() {
            self.settle();
        }
        if let Some(store) = self.line.store() {
            store.give_up();
        }
        tracing::info!("the leader has ended");
    }

    /// Takes what has been asked, and waits where there is nothing to be done: until somebody asks,
    /// or a commit has landed. False once it is told to close, or nobody can ask any more.
    fn gather(&mut self, gathered: &mut Vec<Command>) -> bool {
        let has_room = |gathered: &Vec<Command>| gathered.len() < BATCH_LIMIT;
        if !has_room(gathered) && self.line.is_full() {
            if let Some(outcome) = self.line.wait() {
                self.conclude(outcome);
            }
            return true;
        }
        let mut next = if self.line.is_worth_a_step(gathered.len()) {
            self.commands.try_recv().ok()
        } else {
            let first = self.commands.blocking_recv();
            if first.is_none() {
                return false;
            }
            first
        };
        while let Some(command) = next {
            match command {
                Command::Landed => {}
                Command::Close => return false,
                Command::Request { .. }
                | Command::Hello { .. }
                | Command::Note { .. }
                | Command::Read { .. } => gathered.push(command),
            }
            next = if has_room(gathered) {
                self.commands.try_recv().ok()
            } else {
                None
            };
        }
        true
    }
}
