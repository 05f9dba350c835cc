//! An engine that runs nothing: each container is a tiny guest, answering on its socket from
//! memory. It outlives the agents of a test as containers outlive theirs.

use async_trait::async_trait;
use domain::{Capability, ExitCause, ExitHow, ExitRecord, MemberId, OomEvidence, Timestamp};
use engine_api::{
    ContainerSpec, Engine, EngineError, Fingerprint, Found, Pause, RemoveReport, StartError,
    Started, Usage, layout,
};
use guest_api::files::{RECORD, RecordFile, segment_name};
use guest_api::protocol::ENDED;
use guest_api::{
    FrameKind, GuestConfig, GuestState, HEADER_BYTES, LogFrame, Open, Reply, Request, Stream,
    decode_header, encode_frame,
};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tasks::TaskRunner;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

const STARTED_AT: Timestamp = Timestamp(1_790_000_000_000_000);

/// What one guest is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GuestNow {
    pub(crate) alive: bool,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stdin: Vec<u8>,
    pub(crate) stdin_closed: bool,
    pub(crate) signals: Vec<i32>,
    /// Connections of processes that closed before their end.
    pub(crate) left: u32,
    /// It takes no input, as a command that does not read.
    pub(crate) input_blocked: bool,
    /// It closes every connection for input.
    pub(crate) deaf: bool,
    /// What the engine holds still.
    pub(crate) pause: Pause,
    /// The guest was told that it is paused.
    pub(crate) told_paused: bool,
    /// The guest is of an older build, which knows nothing of pauses.
    pub(crate) old: bool,
    /// It does not obey orders to stop.
    pub(crate) stubborn: bool,
}

#[derive(Debug)]
pub(crate) struct FakeGuest {
    pub(crate) now: watch::Sender<GuestNow>,
    pub(crate) spec: ContainerSpec,
    pub(crate) config: GuestConfig,
}

#[derive(Debug, Default)]
pub(crate) struct FakeEngine {
    guests: Mutex<BTreeMap<MemberId, Arc<FakeGuest>>>,
    starts: Mutex<BTreeMap<MemberId, u32>>,
    /// Members whose next start fails, after which step.
    pub(crate) fail_starts: Mutex<BTreeMap<MemberId, StartFailure>>,
    /// Members whose container is listed as alive, though all of it is about to end.
    pub(crate) dying: Mutex<BTreeSet<MemberId>>,
    /// Every try to pause fails.
    pub(crate) no_pauses: AtomicBool,
    pub(crate) out_of_memory: Mutex<BTreeSet<MemberId>>,
    pub(crate) removed: Mutex<BTreeSet<MemberId>>,
    runner: TaskRunner,
}

/// How a start fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartFailure {
    Cleanly,
    LauncherGoneAfterGo,
    Hangs,
}

impl FakeEngine {
    pub(crate) fn guest(&self, member: MemberId) -> Arc<FakeGuest> {
        let guests = self.guests.lock().expect("not poisoned");
        Arc::clone(guests.get(&member).expect("it was started"))
    }

    pub(crate) fn starts(&self, member: MemberId) -> u32 {
        self.starts
            .lock()
            .expect("not poisoned")
            .get(&member)
            .copied()
            .unwrap_or(0)
    }

    /// How often each member was started that ever was.
    #[allow(
        dead_code,
        reason = "a test of the executable asks, which has this engine too"
    )]
    pub(crate) fn all_starts(&self) -> Vec<u32> {
        let starts = self.starts.lock().expect("not poisoned");
        starts.values().copied().collect()
    }

    pub(crate) async fn close(&self) {
        self.runner.close().await;
    }

    fn find(&self, member: MemberId) -> Option<Arc<FakeGuest>> {
        self.guests
            .lock()
            .expect("not poisoned")
            .get(&member)
            .cloned()
    }

    fn run(&self, spec: &ContainerSpec) -> std::io::Result<()> {
        let config: GuestConfig = rmp_serde::from_slice(&spec.guest.config).expect("a config");
        std::fs::write(spec.directory.join(layout::GUEST), "{}")?;
        let _ = std::fs::remove_file(&spec.guest.socket);
        let listener = UnixListener::bind(&spec.guest.socket)?;
        let alive = GuestNow {
            alive: true,
            ..GuestNow::default()
        };
        let guest = Arc::new(FakeGuest {
            now: watch::Sender::new(alive),
            spec: spec.clone(),
            config,
        });
        self.guests
            .lock()
            .expect("not poisoned")
            .insert(spec.member, Arc::clone(&guest));
        *self
            .starts
            .lock()
            .expect("not poisoned")
            .entry(spec.member)
            .or_default() += 1;
        let runner = self.runner.clone();
        self.runner.spawn_cancellable("listens", async move {
            while guest.now.borrow().alive {
                let mut now = guest.now.subscribe();
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((stream, _)) = accepted else { return };
                        let guest = Arc::clone(&guest);
                        runner.spawn_cancellable("answers", async move {
                            // A client that goes away is no failure.
                            let _ = answer(&guest, stream).await;
                        });
                    }
                    _ = now.wait_for(|now| !now.alive) => return,
                }
            }
        });
        Ok(())
    }
}

#[async_trait]
impl Engine for FakeEngine {
    fn name(&self) -> &'static str {
        "fake"
    }

    async fn fingerprint(&self) -> Result<Fingerprint, EngineError> {
        let row = ("network.none".to_owned(), Capability::Yes);
        Ok(Fingerprint {
            capabilities: [row].into(),
            ..Fingerprint::default()
        })
    }

    async fn start(&self, spec: &ContainerSpec) -> Result<Started, StartError> {
        let failure = self
            .fail_starts
            .lock()
            .expect("not poisoned")
            .remove(&spec.member);
        match failure {
            Some(StartFailure::Cleanly) => {
                return Err(StartError::Act {
                    act: "map the ids".into(),
                    reason: "told to fail".into(),
                });
            }
            Some(StartFailure::Hangs) => std::future::pending().await,
            Some(StartFailure::LauncherGoneAfterGo) | None => {}
        }
        self.run(spec).map_err(|error| StartError::Act {
            act: "run".into(),
            reason: error.to_string(),
        })?;
        if failure.is_some() {
            return Err(EngineError::LauncherGone.into());
        }
        Ok(Started { already: false })
    }

    async fn list(&self) -> Result<Vec<Found>, EngineError> {
        let guests = self.guests.lock().expect("not poisoned");
        let found = guests.iter().map(|(member, guest)| Found {
            member: *member,
            alive: guest.now.borrow().alive,
            pause: guest.now.borrow().pause,
        });
        let dying = self.dying.lock().expect("not poisoned").clone();
        let dying = dying.into_iter().map(|member| Found {
            member,
            alive: true,
            pause: Pause::Never,
        });
        Ok(found.chain(dying).collect())
    }

    async fn signal(&self, member: MemberId, signal: i32) -> Result<(), EngineError> {
        assert_eq!(signal, 9, "only kills go to the guest itself");
        if let Some(guest) = self.find(member) {
            guest.now.send_modify(|now| now.alive = false);
        }
        Ok(())
    }

    async fn remove(&self, member: MemberId, path: &Path) -> Result<RemoveReport, EngineError> {
        self.signal(member, 9).await?;
        for name in [layout::UPPER, layout::HOME, layout::OVERLAY_WORK] {
            process::remove_tree(&path.join(name)).expect("plain directories");
        }
        self.guests.lock().expect("not poisoned").remove(&member);
        self.removed.lock().expect("not poisoned").insert(member);
        Ok(RemoveReport::default())
    }

    async fn pause(&self, member: MemberId) -> Result<(), EngineError> {
        if self.no_pauses.load(Ordering::SeqCst) {
            return Err(EngineError::Act {
                act: "make it stand still".into(),
                reason: "told to fail".into(),
            });
        }
        let guest = self.find(member).ok_or(EngineError::Absent { member })?;
        guest.now.send_modify(|now| now.pause = Pause::Now);
        Ok(())
    }

    async fn resume(&self, member: MemberId) -> Result<(), EngineError> {
        if let Some(guest) = self.find(member) {
            guest.now.send_modify(|now| {
                if now.pause == Pause::Now {
                    now.pause = Pause::Over;
                }
            });
        }
        Ok(())
    }

    async fn usage(&self, member: MemberId) -> Result<Usage, EngineError> {
        self.find(member).ok_or(EngineError::Absent { member })?;
        let killed = self
            .out_of_memory
            .lock()
            .expect("not poisoned")
            .contains(&member);
        let evidence = OomEvidence {
            kills: 1,
            limit_bytes: 8 << 20,
            peak_bytes: None,
            process: None,
            of_node: false,
        };
        Ok(Usage {
            pids: 2,
            out_of_memory: killed.then_some(evidence),
            pids_limit_hits: if killed { 3 } else { 0 },
            ..Usage::default()
        })
    }

    async fn wait(&self, member: MemberId, _: &Path) -> Result<(), EngineError> {
        if let Some(guest) = self.find(member) {
            let _ = guest.now.subscribe().wait_for(|now| !now.alive).await;
        }
        Ok(())
    }
}

impl FakeGuest {
    /// The command writes.
    pub(crate) fn say(&self, text: &str) {
        let path = self
            .spec
            .directory
            .join(layout::LOGS)
            .join(segment_name(Stream::Stdout, 0));
        self.now.send_modify(|now| {
            now.stdout.extend_from_slice(text.as_bytes());
            std::fs::write(&path, &now.stdout).expect("written");
        });
    }

    /// The command ends and the guest writes its record.
    pub(crate) fn exit(&self, code: u8, cause: ExitCause) {
        let record = ExitRecord {
            member: self.spec.member,
            started_at: Some(STARTED_AT),
            ended_at: Timestamp(STARTED_AT.0 + 1),
            how: ExitHow::Exited { code },
            cause,
            stdout_bytes: u64::try_from(self.now.borrow().stdout.len()).expect("small"),
            stderr_bytes: 0,
            out_of_memory: None,
            reason: None,
            disk_bytes: None,
            limits_reached: None,
            system: None,
        };
        let file = RecordFile { format: 1, record };
        let path = self.spec.directory.join(layout::RECORD).join(RECORD);
        std::fs::write(path, serde_json::to_vec(&file).expect("JSON")).expect("written");
        self.die();
    }

    pub(crate) fn die(&self) {
        self.now.send_modify(|now| now.alive = false);
    }

    pub(crate) fn env(&self, name: &str) -> Option<&str> {
        self.config
            .env
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.spec.directory.join(layout::WORK)
    }

    pub(crate) fn spec(&self) -> &ContainerSpec {
        &self.spec
    }
}

async fn read_frame(stream: &mut UnixStream) -> std::io::Result<Vec<u8>> {
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header).await?;
    let (_, length) = decode_header(header).expect("a frame");
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

async fn control(stream: &mut UnixStream, message: &impl Serialize) -> std::io::Result<()> {
    let body = rmp_serde::to_vec_named(message).expect("MessagePack");
    stream
        .write_all(&encode_frame(FrameKind::Control, &body))
        .await
}

async fn answer(guest: &FakeGuest, mut stream: UnixStream) -> std::io::Result<()> {
    let open: Open = rmp_serde::from_slice(&read_frame(&mut stream).await?).expect("an open");
    match open {
        Open::Control => loop {
            let request = read_frame(&mut stream).await?;
            let reply = obey(guest, rmp_serde::from_slice(&request).expect("a request"));
            control(&mut stream, &reply).await?;
        },
        Open::Logs { offset, .. } => send_logs(guest, stream, offset).await,
        Open::Stdin { offset } => take_input(guest, stream, offset).await,
        Open::ReadFile { path } => {
            let bytes = path.into_bytes();
            let size = u64::try_from(bytes.len()).expect("small");
            control(&mut stream, &Reply::File { size, mode: 0o600 }).await?;
            stream
                .write_all(&encode_frame(FrameKind::Data, &bytes))
                .await?;
            stream.write_all(&encode_frame(FrameKind::Data, &[])).await
        }
        Open::Exec { command, .. } if command[0] == "unknown-to-older-guests" => {
            let reason = "the first frame: unknown variant `exec`".to_owned();
            control(&mut stream, &Reply::Failed { reason }).await
        }
        Open::Exec {
            user: Some(user),
            run_as: Some(run_as),
            ..
        } => {
            let (reason, hint) = (
                format!("no {user}"),
                format!("{}:{}", run_as.uid, run_as.gid),
            );
            control(&mut stream, &Reply::UserRefused { reason, hint }).await
        }
        Open::Exec { .. } => {
            control(&mut stream, &Reply::Started).await?;
            echo(guest, stream).await
        }
        Open::Attach { stdout, .. } => {
            let joined = Reply::Attached {
                stdout: stdout.unwrap_or(7),
                stderr: 0,
                terminal: true,
                stdin: true,
            };
            control(&mut stream, &joined).await?;
            echo(guest, stream).await
        }
        Open::Watch | Open::WriteFile { .. } | Open::ListFiles { .. } => Ok(()),
    }
}

/// The signal that comes when the command has just ended.
pub(crate) const LATE_SIGNAL: i32 = 64;
/// One that a guest refuses while its command lives.
pub(crate) const REFUSED_SIGNAL: i32 = 65;

fn obey(guest: &FakeGuest, request: Request) -> Reply {
    match request {
        Request::State => Reply::State {
            state: GuestState::Running { since: STARTED_AT },
        },
        Request::Signal {
            signal: LATE_SIGNAL,
        } => Reply::Failed {
            reason: ENDED.into(),
        },
        Request::Signal {
            signal: REFUSED_SIGNAL,
        } => Reply::Failed {
            reason: "there is no signal 65".into(),
        },
        Request::Signal { signal } => {
            guest.now.send_modify(|now| now.signals.push(signal));
            Reply::Done
        }
        Request::Stop { .. } if guest.now.borrow().stubborn => Reply::Done,
        Request::Stop { .. } => {
            guest.exit(143, ExitCause::Stopped);
            Reply::Done
        }
        Request::Pause | Request::Resume if guest.now.borrow().old => Reply::Failed {
            reason: "the request: unknown variant `pause`, expected one of `state`".into(),
        },
        Request::Pause | Request::Resume => {
            let paused = request == Request::Pause;
            guest.now.send_modify(|now| now.told_paused = paused);
            Reply::Done
        }
        Request::Stats | Request::Resize { .. } => Reply::Failed {
            reason: "not here".into(),
        },
    }
}

async fn send_logs(guest: &FakeGuest, mut stream: UnixStream, from: u64) -> std::io::Result<()> {
    let mut at = usize::try_from(from).expect("small");
    let mut now = guest.now.subscribe();
    loop {
        let (bytes, alive) = {
            let now = now.borrow_and_update();
            (now.stdout[at.min(now.stdout.len())..].to_vec(), now.alive)
        };
        let offset = u64::try_from(at).expect("small");
        if !bytes.is_empty() {
            control(&mut stream, &LogFrame::Data { offset }).await?;
            stream
                .write_all(&encode_frame(FrameKind::Data, &bytes))
                .await?;
            at += bytes.len();
        } else if alive {
            let _ = now.changed().await;
        } else {
            // A guest that was killed says no more.
            return Ok(());
        }
    }
}

/// [`echo_to_the_end`], unless the client goes before: a read tells, or a write.
async fn echo(guest: &FakeGuest, stream: UnixStream) -> std::io::Result<()> {
    let echoed = echo_to_the_end(guest, stream).await;
    if echoed.is_err() {
        guest.now.send_modify(|now| now.left += 1);
    }
    echoed
}

/// Sends input back on both streams, accepts it, notes signals, and ends with the input.
async fn echo_to_the_end(guest: &FakeGuest, mut stream: UnixStream) -> std::io::Result<()> {
    let mut offset = 0;
    loop {
        let mut header = [0; HEADER_BYTES];
        stream.read_exact(&mut header).await?;
        let (kind, length) = decode_header(header).expect("a frame");
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        if kind == FrameKind::Control {
            let request = rmp_serde::from_slice(&body).expect("a request");
            obey(guest, request);
            continue;
        }
        if body.is_empty() {
            let how = ExitHow::Exited { code: 4 };
            let with_session = false;
            return control(&mut stream, &Reply::Ended { how, with_session }).await;
        }
        offset += u64::try_from(body.len()).expect("small");
        for kind in [FrameKind::Data, FrameKind::ErrorData] {
            stream.write_all(&encode_frame(kind, &body)).await?;
        }
        let closed = false;
        control(&mut stream, &Reply::StdinAccepted { offset, closed }).await?;
    }
}

async fn take_input(guest: &FakeGuest, mut stream: UnixStream, from: u64) -> std::io::Result<()> {
    let mut next = usize::try_from(from).expect("small");
    loop {
        let bytes = read_frame(&mut stream).await?;
        let mut now = guest.now.subscribe();
        let _ = now.wait_for(|now| !now.input_blocked).await;
        if guest.now.borrow().deaf {
            return Ok(());
        }
        guest.now.send_modify(|now| {
            let known = now.stdin.len().saturating_sub(next).min(bytes.len());
            now.stdin.extend_from_slice(&bytes[known..]);
            now.stdin_closed |= bytes.is_empty();
        });
        next += bytes.len();
        let (offset, closed) = {
            let now = guest.now.borrow();
            (
                u64::try_from(now.stdin.len()).expect("small"),
                now.stdin_closed,
            )
        };
        control(&mut stream, &Reply::StdinAccepted { offset, closed }).await?;
    }
}
