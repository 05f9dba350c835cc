//! The conformance cases on the simulated engine, and that they find faults.

mod conformance {
    pub(crate) mod checked_in;
}

use async_trait::async_trait;
use conformance::checked_in;
use domain::{
    AskedLimits, ExitHow, ExitRecord, MemberId, Network, OomEvidence, Pressure, SessionId, Stall,
    Timestamp,
};
use engine_api::conformance::{
    CASES, Harness, Kept, MadeInMount, Plan, Report, Violation, Work, run_case,
};
use engine_api::simulated::{Ending, Life, Output, Script, SimulatedEngine};
use engine_api::{
    ContainerSpec, Engine, EngineError, Fingerprint, Found, GuestSpec, Limits, Pause, RemoveReport,
    RootSpec, StartError, Started, UidRange, Usage, layout,
};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

/// 2026-01-01T00:00:00Z.
const START: Timestamp = Timestamp(1_767_225_600_000_000);
const NAP_MICROS: u64 = 300_000;
const NODE_NETWORK: &str = "net:[1]";
const UID_BASE: u32 = 2_000_000_000;

/// Gives each work the life that its script would have. The work stands where a real engine finds
/// the guest's configuration.
#[derive(Debug)]
struct Works;

fn encode(plan: &Plan) -> Vec<u8> {
    let place = WORKS
        .iter()
        .position(|work| *work == plan.work)
        .expect("a known work");
    vec![u8::try_from(place).expect("few")]
}

const WORKS: &[Work] = &[
    Work::Exit(0),
    Work::Exit(7),
    Work::Exit(255),
    Work::Print,
    Work::Sleep,
    Work::Nap,
    Work::Spin,
    Work::Count,
    Work::Devour,
    Work::Multiply,
    Work::ShowNetwork,
    Work::NameNetwork,
    Work::ShowRoot,
    Work::ShowIdentity,
    Work::ShowFilter,
    Work::UseLayers,
    Work::UseMount,
    Work::OpenDevices,
    Work::Fill,
];

fn prints(text: impl Into<Vec<u8>>) -> Life {
    let mut life = Life::exits(0, 0);
    life.ending.output = Output {
        stdout: text.into(),
        stderr: Vec::new(),
    };
    life
}

/// Uses all of what it may have, and waits for the rest of a CPU.
fn spins(cpu: u64) -> Life {
    let mut life = Life::forever();
    life.cpu = cpu;
    let waits = u32::try_from(10_000 - cpu).expect("at most a CPU");
    life.usage.pressure = Some(Pressure {
        cpu: Stall {
            recent_hundredths: waits,
            total_micros: u64::from(waits) * 1_000,
        },
        ..Pressure::default()
    });
    life
}

impl Script for Works {
    fn life(&self, container: &ContainerSpec) -> Life {
        let limits = container.limits;
        match WORKS[usize::from(container.guest.config[0])] {
            Work::Exit(code) => Life::exits(1_000, code),
            Work::Print => prints(Work::TEXT),
            Work::Sleep => Life::forever(),
            Work::Nap => Life::exits(NAP_MICROS, 0),
            Work::Spin => spins(limits.cpu),
            Work::Count => Life {
                line_every_micros: Some(10_000),
                ..Life::forever()
            },
            Work::Devour => Life {
                ending: Ending {
                    how: ExitHow::Signalled {
                        signal: 9,
                        core_dumped: false,
                    },
                    out_of_memory: Some(OomEvidence {
                        kills: 1,
                        limit_bytes: limits.memory_bytes,
                        peak_bytes: Some(limits.memory_bytes),
                        process: Some("tail".to_owned()),
                        of_node: false,
                    }),
                    ..Ending::exit(0)
                },
                ..Life::exits(1_000, 0)
            },
            // The guest and the shell count too.
            Work::Multiply => {
                let most = Work::PROCESSES.min(limits.pids - 2);
                prints(
                    (1..=most)
                        .map(|number| format!("{number}\n"))
                        .collect::<String>(),
                )
            }
            Work::ShowNetwork => match container.network {
                Network::None => prints("lo\n"),
                Network::Egress => prints("eth0\nlo\n"),
                Network::Host => prints("lo\nuplink0\nuplink1\n"),
            },
            Work::NameNetwork => match container.network {
                Network::Host => prints(format!("{NODE_NETWORK}\n")),
                Network::None | Network::Egress => prints("net:[2]\n"),
            },
            Work::ShowRoot => prints("ro,nosuid\n"),
            Work::ShowIdentity => {
                prints(format!("0 {} {}\n", container.uids.base, UidRange::LENGTH))
            }
            Work::ShowFilter => prints("2\n"),
            Work::UseLayers => prints(Work::LAYERED),
            Work::UseMount => prints(Work::MOUNTED.1),
            Work::Fill if container.directory.ends_with(layout::DISK) => prints("full\n4085\n"),
            Work::Fill => prints(format!("filled\n{}\n", Work::FILES)),
            Work::OpenDevices => prints("full\nnull\nrandom\ntty\nurandom\nzero\n"),
        }
    }
}

/// The simulated engine behind another one that may have faults.
#[derive(Debug)]
struct Simulated<E> {
    simulated: Arc<SimulatedEngine>,
    engine: E,
}

fn simulated() -> Simulated<Arc<SimulatedEngine>> {
    let simulated = Arc::new(SimulatedEngine::new(Works, START));
    Simulated {
        engine: Arc::clone(&simulated),
        simulated,
    }
}

/// What an engine behind a harness must be: the simulated one itself, or a faulty one around it.
trait AsEngine: Send + Sync {
    fn as_engine(&self) -> &dyn Engine;
}

impl AsEngine for Arc<SimulatedEngine> {
    fn as_engine(&self) -> &dyn Engine {
        self.as_ref()
    }
}

#[async_trait]
impl<E: AsEngine> Harness for Simulated<E> {
    fn engine(&self) -> &dyn Engine {
        self.engine.as_engine()
    }

    fn member(&self, number: u32) -> MemberId {
        MemberId {
            session: SessionId(u64::from(number)),
            attempt: 1,
            index: 0,
        }
    }

    async fn prepare(&self, plan: &Plan) -> ContainerSpec {
        let number = u32::try_from(plan.member.session.0).expect("small");
        let mut directory = Path::new("/nowhere").join(plan.member.to_string());
        // What has one is told by its directory's name, for there is nothing to be mounted.
        if let Some(bytes) = plan.disk_bytes
            && self.engine().make_disk(&directory, bytes).expect("asked")
        {
            directory.push(layout::DISK);
        }
        ContainerSpec {
            member: plan.member,
            hostname: "case".to_owned(),
            directory,
            root: RootSpec {
                layers: Vec::new(),
                read_only: plan.read_only,
            },
            binds: Vec::new(),
            uids: UidRange {
                base: UID_BASE + number * UidRange::LENGTH,
            },
            limits: Limits {
                cpu: plan.cpu,
                memory_bytes: plan.memory_bytes,
                pids: plan.pids,
                tmpfs_bytes: plan.memory_bytes / 4,
                best_effort: plan.best_effort,
                asked: AskedLimits::ALL,
            },
            network: plan.network,
            guest: GuestSpec {
                config: encode(plan),
                socket: "/nowhere/socket".into(),
            },
        }
    }

    async fn start_and_die(&self, container: &ContainerSpec) {
        // It is no process: what lives by it lives in the test.
        let started = self.engine().start(container).await;
        assert!(!started.expect("started").already);
    }

    async fn made_in_mount(&self, container: &ContainerSpec) -> Option<MadeInMount> {
        let uses = WORKS[usize::from(container.guest.config[0])] == Work::UseMount;
        let ended = self.simulated.record(container.member).is_some();
        (uses && ended).then(|| MadeInMount {
            text: Work::MADE.1.to_owned(),
            is_users: true,
        })
    }

    async fn advance(&self, milliseconds: u32) {
        self.simulated.advance(u64::from(milliseconds) * 1_000);
    }

    async fn record(&self, container: &ContainerSpec) -> Option<ExitRecord> {
        self.simulated.record(container.member)
    }

    async fn output(&self, container: &ContainerSpec) -> Vec<u8> {
        self.simulated
            .output(container.member)
            .unwrap_or_default()
            .stdout
    }

    async fn kept(&self, container: &ContainerSpec) -> Kept {
        let left = self.simulated.record(container.member).is_some();
        Kept {
            work: left,
            logs: left,
            record: left,
        }
    }

    fn node_network(&self) -> String {
        NODE_NETWORK.to_owned()
    }

    async fn discard(&self, container: &ContainerSpec) {
        self.simulated.forget(container.member);
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn the_simulated_engine_conforms() {
    let harness = simulated();
    let (report, violations) = block_on(Report::make("simulated", &harness));
    assert!(violations.is_empty(), "{violations:#?}");
    assert_eq!(report.cases.len(), CASES.len());
    let listed = block_on(harness.engine().list()).expect("listed");
    assert!(listed.is_empty(), "the cases clean up: {listed:?}");
    checked_in::compare("simulated", &report);
}

#[test]
fn what_an_engine_lacks_is_not_supported_and_refused() {
    let harness = simulated();
    harness.simulated.lack("limit.pids", "for this test");
    let check = |case, expect: &str| {
        let result = block_on(run_case(case, &harness));
        assert_eq!(format!("{result:?}"), expect, "{case}");
    };
    check("limits.pids", "Ok(NotSupported { row: \"limit.pids\" })");
    harness.simulated.lack("pause", "for this test");
    check("pause.listed", "Ok(NotSupported { row: \"pause\" })");
    check("limits.refused", "Ok(Passed)");
    check("limits.cpu", "Ok(Passed)");
    check("no.such", "Err(NoSuchCase)");
}

/// Ways in which an engine can break its promises.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    StartsTwice,
    SurvivesRemoval,
    WaitsForEver,
    InventsUsage,
    HidesPressure,
    ForgetsARow,
    IgnoresLimits,
    IgnoresTheNetwork,
    PausesNothing,
    HidesPauses,
    MakesNoDisk,
}

/// The simulated engine with one fault.
#[derive(Debug)]
struct Faulty {
    inner: Arc<SimulatedEngine>,
    fault: Fault,
}

impl AsEngine for Faulty {
    fn as_engine(&self) -> &dyn Engine {
        self
    }
}

#[async_trait]
impl Engine for Faulty {
    fn name(&self) -> &'static str {
        "faulty"
    }

    async fn fingerprint(&self) -> Result<Fingerprint, EngineError> {
        let mut fingerprint = self.inner.fingerprint().await?;
        if self.fault == Fault::ForgetsARow {
            fingerprint.capabilities.pop_first();
        }
        Ok(fingerprint)
    }

    async fn start(&self, container: &ContainerSpec) -> Result<Started, StartError> {
        let mut container = container.clone();
        if self.fault == Fault::IgnoresLimits {
            container.limits.cpu = 10_000;
            container.limits.pids = 10_000;
            container.limits.memory_bytes = 1 << 40;
        }
        if self.fault == Fault::IgnoresTheNetwork {
            container.network = match container.network {
                Network::None => Network::Host,
                Network::Host | Network::Egress => Network::None,
            };
        }
        let started = self.inner.start(&container).await;
        match self.fault {
            Fault::StartsTwice => Ok(Started { already: false }),
            Fault::SurvivesRemoval
            | Fault::WaitsForEver
            | Fault::InventsUsage
            | Fault::HidesPressure
            | Fault::ForgetsARow
            | Fault::IgnoresLimits
            | Fault::IgnoresTheNetwork
            | Fault::PausesNothing
            | Fault::HidesPauses
            | Fault::MakesNoDisk => started,
        }
    }

    async fn list(&self) -> Result<Vec<Found>, EngineError> {
        let mut list = self.inner.list().await?;
        if self.fault == Fault::HidesPauses {
            list.iter_mut().for_each(|found| found.pause = Pause::Never);
        }
        Ok(list)
    }

    async fn pause(&self, member: MemberId) -> Result<(), EngineError> {
        if self.fault == Fault::PausesNothing {
            return Ok(());
        }
        self.inner.pause(member).await
    }

    async fn resume(&self, member: MemberId) -> Result<(), EngineError> {
        self.inner.resume(member).await
    }

    async fn signal(&self, member: MemberId, signal: i32) -> Result<(), EngineError> {
        self.inner.signal(member, signal).await
    }

    async fn remove(
        &self,
        member: MemberId,
        directory: &Path,
    ) -> Result<RemoveReport, EngineError> {
        if self.fault == Fault::SurvivesRemoval {
            return Ok(RemoveReport::default());
        }
        self.inner.remove(member, directory).await
    }

    fn make_disk(&self, directory: &Path, bytes: u64) -> Result<bool, EngineError> {
        if self.fault == Fault::MakesNoDisk {
            return Ok(false);
        }
        self.inner.make_disk(directory, bytes)
    }

    async fn usage(&self, member: MemberId) -> Result<Usage, EngineError> {
        if self.fault == Fault::InventsUsage {
            return Ok(Usage::default());
        }
        let usage = self.inner.usage(member).await?;
        let pressure = match self.fault {
            Fault::HidesPressure => Some(Pressure::default()),
            _ => usage.pressure,
        };
        Ok(Usage { pressure, ..usage })
    }

    async fn wait(&self, member: MemberId, directory: &Path) -> Result<(), EngineError> {
        if self.fault == Fault::WaitsForEver {
            std::future::pending::<()>().await;
        }
        self.inner.wait(member, directory).await
    }
}

#[test]
fn faults_are_found() {
    let faults = [
        (Fault::StartsTwice, "start.idempotent"),
        (Fault::StartsTwice, "start.once"),
        (Fault::SurvivesRemoval, "remove.living"),
        (Fault::WaitsForEver, "wait.end"),
        (Fault::InventsUsage, "usage.absent"),
        (Fault::HidesPressure, "pressure.told"),
        (Fault::IgnoresLimits, "pressure.told"),
        (Fault::ForgetsARow, "fingerprint.complete"),
        (Fault::IgnoresLimits, "limits.cpu"),
        (Fault::IgnoresLimits, "limits.pids"),
        (Fault::IgnoresLimits, "limits.memory"),
        (Fault::IgnoresTheNetwork, "network.none"),
        (Fault::IgnoresTheNetwork, "network.host"),
        (Fault::IgnoresTheNetwork, "network.egress"),
        (Fault::PausesNothing, "pause.stands-still"),
        (Fault::HidesPauses, "pause.listed"),
        (Fault::MakesNoDisk, "disk.own"),
    ];
    for (fault, case) in faults {
        let simulated = Arc::new(SimulatedEngine::new(Works, START));
        let engine = Faulty {
            inner: Arc::clone(&simulated),
            fault,
        };
        let result = block_on(run_case(case, &Simulated { simulated, engine }));
        assert!(
            matches!(result, Err(Violation::Broken { .. })),
            "{fault:?}, {case}: {result:?}"
        );
    }
}

#[test]
fn a_guest_that_is_killed_leaves_no_record_and_a_reboot_leaves_nothing_alive() {
    let harness = simulated();
    let plan = |number, work| Plan {
        member: harness.member(number),
        work,
        cpu: 10_000,
        memory_bytes: 1 << 20,
        pids: 10,
        network: Network::None,
        disk_bytes: None,
        read_only: true,
        best_effort: false,
    };
    block_on(async {
        let engine = harness.engine();
        let killed = harness.prepare(&plan(1, Work::Nap)).await;
        let napping = harness.prepare(&plan(2, Work::Nap)).await;
        let sleeping = harness.prepare(&plan(3, Work::Sleep)).await;
        for container in [&killed, &napping, &sleeping] {
            engine.start(container).await.expect("started");
        }
        harness.simulated.kill_guest(killed.member);
        harness.advance(1_000).await;
        assert_eq!(harness.record(&killed).await, None);
        let record = harness.record(&napping).await.expect("it ended by itself");
        assert_eq!(
            record.ended_at.micros_since(START),
            NAP_MICROS,
            "at its own moment"
        );
        harness.simulated.reboot();
        assert!(engine.list().await.expect("listed").is_empty());
        assert!(harness.record(&napping).await.is_some(), "the disk is kept");
        assert_eq!(harness.simulated.starts(sleeping.member), 1);
        harness.simulated.lose_launcher();
        let error = engine.list().await.expect_err("the launcher is gone");
        assert!(matches!(error, EngineError::LauncherGone));
        engine
            .list()
            .await
            .expect("it is started again for the next call");
    });
}
