//! One run: the core on the calling thread, the store on a thread of its own.
//!
//! As in the leader a batch is what has come, of 512 commands at most; all its rows are committed
//! in one transaction, then the view takes them in, and only then anything is let out. If it is told
//! to, the core steps through the next batch while one is being committed, which the leader does not
//! do yet: if the commit failed, both would be dropped, as the leader drops its core then.

use crate::placements::work::Work;
use anyhow::{Context as _, Result, bail, ensure};
use database::{OpenOptions, SqliteStore, Store};
use domain::{Monotonic, Now, SessionState, SiteId, Timestamp};
use lifecycle::manager::{
    Answer, CreateRequest, Effects, Event, EventKind, RequestToken, Site, View,
};
use rustix::thread::CpuSet;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Most commands of one batch, as in the leader.
const BATCH_LIMIT: usize = 512;
/// A core that waits for less than this goes on looking.
const SPIN: Duration = Duration::from_micros(200);

/// How a run is made.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Arrivals in a second, evenly; 0: all have come before the first is taken.
    pub rate: u64,
    /// Whether the core steps through a batch while the one before is committed.
    pub overlaps: bool,
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
    /// Batches.
    pub batches: u64,
    /// Rows of all batches.
    pub rows: u64,
    /// Sets that nodes were told.
    pub desired: u64,
}

/// A batch on its way to the disk.
struct Batch {
    effects: Effects,
    /// When each of its sessions arrived.
    arrivals: Vec<Duration>,
}

/// What the store's thread does with it.
struct Committed {
    batch: Batch,
    took: Duration,
    /// Of the processor.
    cpu: Duration,
}

struct Run {
    site: Site,
    view: View,
    requests: std::iter::Peekable<std::vec::IntoIter<CreateRequest>>,
    settings: Settings,
    began: Instant,
    taken: u64,
    in_flight: bool,
    to_store: SyncSender<Batch>,
    from_store: Receiver<Result<Committed>>,
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
    let (to_store, batches) = sync_channel::<Batch>(1);
    let (results, from_store) = sync_channel(1);
    let processors = Processors::of(settings.core)?;
    let others = processors.others;
    let committing = std::thread::Builder::new().name("store".to_owned());
    let committing = committing.spawn(move || {
        let bound = others.map_or(Ok(()), |others| bind(&others));
        if let Err(error) = bound {
            // Whoever waits for a commit is told why there is none.
            let _told = results.send(Err(error));
            return;
        }
        for batch in batches {
            let (began, cpu) = (Instant::now(), thread_cpu());
            let result = store.commit(&batch.effects.rows);
            let (took, cpu) = (began.elapsed(), thread_cpu().saturating_sub(cpu));
            let result = result.context("a commit failed");
            let committed = Committed { batch, took, cpu };
            if results.send(result.map(|_| committed)).is_err() {
                break;
            }
        }
    })?;
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
        in_flight: false,
        to_store,
        from_store,
        times: Times::default(),
    };
    let all = run.all();
    bind(&processors.all)?;
    all?;
    let mut times = run.times;
    drop((run.to_store, run.from_store));
    if committing.join().is_err() {
        bail!("the store's thread has panicked");
    }
    times.waits.sort_unstable();
    Ok(times)
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
        loop {
            let mut arrivals = Vec::new();
            let mut events = Vec::new();
            while events.len() < BATCH_LIMIT
                && let Some(arrival) = self.arrived()
                && let Some(request) = self.requests.next()
            {
                arrivals.push(arrival);
                events.push(event(self.taken, request));
                self.taken += 1;
            }
            if events.is_empty() {
                if self.requests.peek().is_none() && !self.in_flight {
                    break;
                }
                self.wait()?;
                continue;
            }
            let began = Instant::now();
            let effects = self.site.step_batch(events);
            self.times.stepped += began.elapsed();
            if self.in_flight {
                self.let_out(true)?;
            }
            self.times.batches += 1;
            self.to_store
                .send(Batch { effects, arrivals })
                .context("the store's thread has ended")?;
            self.in_flight = true;
            if !self.settings.overlaps {
                self.let_out(true)?;
            }
        }
        self.times.whole = self.began.elapsed();
        self.times.core_cpu = thread_cpu().saturating_sub(cpu);
        Ok(())
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

    /// Until the next arrives or the store is done.
    fn wait(&mut self) -> Result<()> {
        if self.requests.peek().is_none() {
            return self.let_out(true);
        }
        if self.in_flight {
            return self.let_out(false);
        }
        let left = self.arrival().saturating_sub(self.began.elapsed());
        if left > SPIN {
            std::thread::sleep(left - SPIN);
        }
        Ok(())
    }

    /// Lets a batch out whose commit is made; `waits`: however long that takes, else only until the
    /// next session arrives.
    fn let_out(&mut self, waits: bool) -> Result<()> {
        let left = self.arrival().saturating_sub(self.began.elapsed());
        let committed = if waits {
            self.from_store
                .recv()
                .context("the store's thread has ended")?
        } else if left > SPIN {
            match self.from_store.recv_timeout(left - SPIN) {
                Ok(committed) => committed,
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => bail!("the store's thread has ended"),
            }
        } else {
            match self.from_store.try_recv() {
                Ok(committed) => committed,
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => bail!("the store's thread has ended"),
            }
        };
        let Committed { batch, took, cpu } = committed?;
        self.in_flight = false;
        let began = Instant::now();
        self.view.apply(&batch.effects);
        self.times.applied += began.elapsed();
        self.times.committed += took;
        self.times.store_cpu += cpu;
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
