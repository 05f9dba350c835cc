//! One run: the core on the calling thread, the store on a thread of its own.
//!
//! The line between them is the leader's own ([`Line`]), and so is what is asked of it: a batch is
//! what has come; the core steps on while one is committed; what it steps meanwhile goes together
//! into the next transaction; then the view takes it in, and only then anything is let out.

use crate::placements::work::Work;
use anyhow::{Context as _, Result, bail, ensure};
use database::{BATCH_LIMIT, Batch, Line, OpenOptions, Outcome, SqliteStore, Store};
use domain::{Monotonic, Now, SessionState, SiteId, Timestamp};
use lifecycle::manager::{
    Answer, CreateRequest, Effects, Event, EventKind, RequestToken, Site, View,
};
use lifecycle::rows::RowChange;
use rustix::thread::CpuSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A core that waits for less than this goes on looking.
const SPIN: Duration = Duration::from_micros(200);

/// How a run is made.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Arrivals in a second, evenly; 0: all have come before the first is taken.
    pub rate: u64,
    /// The core waits for each commit, and steps nothing meanwhile.
    pub in_turns: bool,
    /// The processor that is the core's alone: the store's thread has the others.
    pub core: Option<usize>,
}

/// What a run took.
#[derive(Clone, Debug, Default)]
pub struct Times {
    /// From the first that was taken to the last that was let out.
    pub whole: Duration,
    /// Of each session, from its arrival until it was let out; sorted.
    pub waits: Vec<Duration>,
    /// In the core.
    pub stepped: Duration,
    /// In the store, on its thread.
    pub committed: Duration,
    /// What the core's thread had of its processor, for all it does.
    pub core_cpu: Duration,
    /// What the store's thread had.
    pub store_cpu: Duration,
    /// In the view.
    pub applied: Duration,
    /// Batches that the core stepped through.
    pub batches: u64,
    /// Transactions.
    pub commits: u64,
    /// Rows of all batches.
    pub rows: u64,
    /// Sets that nodes were told.
    pub desired: u64,
}

/// A batch on its way to the disk.
struct Placed {
    effects: Effects,
    /// When each of its sessions arrived.
    arrivals: Vec<Duration>,
}

impl Batch for Placed {
    fn rows(&mut self) -> &mut Vec<RowChange> {
        &mut self.effects.rows
    }

    fn commands(&self) -> usize {
        self.arrivals.len()
    }
}

struct Run {
    site: Site,
    view: View,
    requests: std::iter::Peekable<std::vec::IntoIter<CreateRequest>>,
    settings: Settings,
    began: Instant,
    taken: u64,
    line: Line<Placed>,
    times: Times,
}

/// Makes a site at `path` and places all that `work` says.
pub fn drive(path: &Path, work: Work, settings: Settings) -> Result<Times> {
    let options = OpenOptions {
        new_site: SiteId(1),
        reserve_bytes: 0,
        now: now().wall,
    };
    let mut store = SqliteStore::open(path, options)?;
    let (site, view) = prepared(&mut store, work)?;
    let processors = Processors::of(settings.core)?;
    let others = processors.others;
    let bound = move || {
        let bound = others.map_or(Ok(()), |others| bind(&others));
        // What was not said loudly would be a wrong number.
        bound.expect("the store's thread is bound to its processors");
    };
    let store_cpu = Arc::new(AtomicU64::new(0));
    let landed = {
        let store_cpu = Arc::clone(&store_cpu);
        move || store_cpu.store(nanos(thread_cpu()), Ordering::Relaxed)
    };
    let line = Line::new(Box::new(store), bound, landed)?;
    let requests: Vec<CreateRequest> = work.requests().collect();
    if let Some(own) = &processors.own {
        bind(own)?;
    }
    let mut run = Run {
        site,
        view,
        requests: requests.into_iter().peekable(),
        settings,
        began: Instant::now(),
        taken: 0,
        line,
        times: Times::default(),
    };
    let all = run.all();
    bind(&processors.all)?;
    all?;
    let mut times = run.times;
    drop(run.line);
    times.store_cpu = Duration::from_nanos(store_cpu.load(Ordering::Relaxed));
    times.waits.sort_unstable();
    Ok(times)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Which processors threads may use.
struct Processors {
    all: CpuSet,
    /// The core's.
    own: Option<CpuSet>,
    /// The store's, where the core has its own.
    others: Option<CpuSet>,
}

impl Processors {
    fn of(core: Option<usize>) -> Result<Self> {
        let all = rustix::thread::sched_getaffinity(None)?;
        let Some(core) = core else {
            let (own, others) = (None, None);
            return Ok(Self { all, own, others });
        };
        ensure!(
            core < CpuSet::MAX_CPU && all.is_set(core),
            "there is no processor {core}"
        );
        let (mut own, mut others) = (CpuSet::new(), all);
        own.set(core);
        others.unset(core);
        ensure!(
            others.count() > 0,
            "the store has no processor beside {core}"
        );
        Ok(Self {
            all,
            own: Some(own),
            others: Some(others),
        })
    }
}

/// Binds this thread to some processors. A thread that it makes later inherits them.
fn bind(processors: &CpuSet) -> Result<()> {
    rustix::thread::sched_setaffinity(None, processors)
        .context("cannot bind a thread to its processors")
}

/// A site whose nodes are connected and have told that they have nothing.
fn prepared(store: &mut SqliteStore, work: Work) -> Result<(Site, View)> {
    let loaded = store.load(Timestamp(0), Timestamp(0))?;
    let mut view = View::from_loaded(&loaded);
    let (mut site, effects) = Site::from_loaded(loaded, now());
    store.commit(&effects.rows)?;
    view.apply(&effects);
    let (incarnation, epoch) = (site.row().incarnation, site.row().epoch);
    let hellos: Vec<_> = work.hellos().collect();
    for some in hellos.chunks(BATCH_LIMIT) {
        let hellos = some.iter().map(|hello| EventKind::NodeConnected {
            hello: Box::new(hello.clone()),
        });
        let reports = some.iter().map(|hello| EventKind::Report {
            report: Box::new(Work::report(hello.node, incarnation, epoch)),
        });
        for kinds in [hellos.collect::<Vec<_>>(), reports.collect()] {
            let now = now();
            let events = kinds.into_iter().map(|kind| Event { now, kind });
            let effects = site.step_batch(events.collect());
            store.commit(&effects.rows)?;
            view.apply(&effects);
        }
    }
    Ok((site, view))
}

impl Run {
    fn all(&mut self) -> Result<()> {
        let cpu = thread_cpu();
        let mut gathered = Vec::new();
        let mut arrivals = Vec::new();
        loop {
            while gathered.len() < BATCH_LIMIT
                && let Some(arrival) = self.arrived()
                && let Some(request) = self.requests.next()
            {
                arrivals.push(arrival);
                gathered.push((self.taken, request));
                self.taken += 1;
            }
            if let Some(outcome) = self.line.landed() {
                self.let_out(outcome)?;
            }
            let is_turn = !self.settings.in_turns || !self.line.is_flying();
            if is_turn && self.line.is_worth_a_step(gathered.len()) {
                let arrivals = std::mem::take(&mut arrivals);
                self.step(gathered.drain(..), arrivals)?;
                continue;
            }
            let is_last = self.requests.peek().is_none();
            if is_last && gathered.is_empty() && self.line.is_at_rest() {
                break;
            }
            self.wait(is_last || gathered.len() == BATCH_LIMIT)?;
        }
        self.times.whole = self.began.elapsed();
        self.times.core_cpu = thread_cpu().saturating_sub(cpu);
        Ok(())
    }

    fn step(
        &mut self,
        gathered: impl Iterator<Item = (u64, CreateRequest)>,
        arrivals: Vec<Duration>,
    ) -> Result<()> {
        let began = Instant::now();
        let events = gathered.map(|(number, request)| event(number, request));
        let effects = self.site.step_batch(events.collect());
        self.times.stepped += began.elapsed();
        self.times.batches += 1;
        self.line.put(Placed { effects, arrivals });
        match self.line.depart() {
            Some(outcome) => self.let_out(outcome),
            None => Ok(()),
        }
    }

    /// When the next has arrived, if it has.
    fn arrived(&self) -> Option<Duration> {
        let arrival = self.arrival();
        (self.settings.rate == 0 || arrival <= self.began.elapsed()).then_some(arrival)
    }

    fn arrival(&self) -> Duration {
        match self.settings.rate {
            0 => Duration::ZERO,
            rate => Duration::from_nanos(self.taken * 1_000_000_000 / rate),
        }
    }

    /// Until the next arrives or the store is done; with nothing to come, until it is done.
    fn wait(&mut self, for_store: bool) -> Result<()> {
        let left = self.arrival().saturating_sub(self.began.elapsed());
        let outcome = if for_store {
            self.line.wait()
        } else if left <= SPIN {
            None
        } else if self.line.is_flying() {
            self.line.landed_within(left - SPIN)
        } else {
            std::thread::sleep(left - SPIN);
            None
        };
        outcome.map_or(Ok(()), |outcome| self.let_out(outcome))
    }

    /// Lets out what was committed, and has the next committed meanwhile.
    fn let_out(&mut self, outcome: Outcome<Placed>) -> Result<()> {
        let (batches, took) = match outcome {
            Outcome::Made { batches, took, .. } => (batches, took),
            Outcome::Failed { error, .. } => {
                return Err(anyhow::Error::new(error).context("a commit failed"));
            }
        };
        let next = self.line.depart();
        self.times.commits += 1;
        self.times.committed += took;
        for batch in batches {
            self.let_one_out(batch)?;
        }
        match next {
            Some(outcome) => self.let_out(outcome),
            None => Ok(()),
        }
    }

    fn let_one_out(&mut self, batch: Placed) -> Result<()> {
        let began = Instant::now();
        self.view.apply(&batch.effects);
        self.times.applied += began.elapsed();
        let rows = u64::try_from(batch.effects.rows.len()).expect("a count");
        let desired = u64::try_from(batch.effects.desired.len()).expect("a count");
        self.times.rows += rows;
        self.times.desired += desired;
        for (_, answer) in &batch.effects.answers {
            let Answer::Created { session, .. } = answer else {
                bail!("a session was refused: {answer:?}");
            };
            let shown = self.view.sessions.get(session);
            let placed = shown.is_some_and(|record| record.state == SessionState::Placed);
            ensure!(placed, "session {session} is let out before it is placed");
        }
        let out = self.began.elapsed();
        let waits = batch.arrivals.into_iter();
        self.times
            .waits
            .extend(waits.map(|arrival| out.saturating_sub(arrival)));
        Ok(())
    }
}

fn event(number: u64, request: CreateRequest) -> Event {
    let token = RequestToken(number);
    let request = Box::new(request);
    Event {
        now: now(),
        kind: EventKind::Create { token, request },
    }
}

/// What this thread has had of processors so far.
fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Both clocks; the monotonic one begins with the first look.
fn now() -> Now {
    static BEGAN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let began = *BEGAN.get_or_init(Instant::now);
    let wall = SystemTime::now().duration_since(UNIX_EPOCH);
    let micros = wall.map_or(0, |wall| wall.as_micros());
    Now {
        wall: Timestamp(i64::try_from(micros).unwrap_or(i64::MAX)),
        monotonic: Monotonic(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX)),
    }
}
