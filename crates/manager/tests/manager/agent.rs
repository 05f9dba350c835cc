//! An agent without containers: what it is told becomes true at once, by the command's name.
//!
//! `true` ends well, `exit N` ends with N, `stay` prints a line and runs until it is stopped,
//! `slow` is prepared until the test lets it go, `flaky N` fails N times before it ends well.

use async_trait::async_trait;
use domain::{
    Capability, ExitCause, ExitHow, ExitRecord, MemberId, MemberPause, MemberState, NodeId, Slots,
    Timestamp,
};
use futures::stream::{self, StreamExt};
use node_api::{
    ByteStream, Desired, DownloadRequest, Hello, JoinRequest, JoinedProcess, LogChunk,
    LogChunkStream, LogRequest, LogStream, ManagerApi, MemberSample, MemberUsage, NodeApi,
    NodeError, Preparation, ProcessInput, ProcessInputStream, ProcessOutput, ProcessOutputStream,
    Report, ReportedMember, SignalRequest, StdinReply, StdinRequest, Want,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) state: MemberState,
    pub(crate) output: Vec<u8>,
    pub(crate) input: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    members: BTreeMap<MemberId, Member>,
    /// Those that were told to stand still.
    paused: BTreeSet<MemberId>,
    incarnation: u64,
    epoch: u64,
    generation: u64,
    sequence: u64,
    /// How many more log streams break after a few bytes.
    breaks: usize,
    /// Calls of logs.
    opened: usize,
}

#[derive(Debug)]
pub(crate) struct FakeAgent {
    pub(crate) node: NodeId,
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    manager: Mutex<Option<Arc<dyn ManagerApi>>>,
}

fn now() -> Timestamp {
    manager::clock::now().wall
}

pub(crate) fn exited(member: MemberId, how: ExitHow, cause: ExitCause) -> MemberState {
    let ran = !matches!(how, ExitHow::NeverRan { .. });
    let record = ExitRecord {
        member,
        started_at: ran.then(now),
        ended_at: now(),
        how,
        cause,
        stdout_bytes: 0,
        stderr_bytes: 0,
        out_of_memory: None,
        reason: None,
        disk_bytes: None,
        limits_reached: None,
        system: None,
    };
    MemberState::Exited { record }
}

impl FakeAgent {
    pub(crate) fn new(node: u64) -> Arc<Self> {
        Arc::new(Self {
            node: NodeId(node),
            state: Mutex::default(),
            changed: watch::Sender::new(0),
            manager: Mutex::default(),
        })
    }

    /// Says hello, obeys, and reports.
    pub(crate) async fn connect(&self, manager: Arc<dyn ManagerApi>) {
        *self.manager.lock().expect("not poisoned") = Some(Arc::clone(&manager));
        let rows = [
            "limit.cpu",
            "limit.memory",
            "limit.pids",
            "network.none",
            "network.host",
            "network.egress",
            "limit.disk",
            "pause",
        ];
        let hello = Hello {
            node: self.node,
            name: format!("n{}", self.node.0),
            pool: "default".to_owned(),
            offers: Slots::of(40_000, 1 << 30),
            capabilities: rows.map(|row| (row.to_owned(), Capability::Yes)).into(),
            site: None,
            obeyed: None,
        };
        let welcome = manager.hello(hello).await.expect("welcome");
        self.obey(welcome.desired).await.expect("it is this site");
    }

    async fn obey(&self, desired: Desired) -> Result<(), NodeError> {
        {
            let mut state = self.state.lock().expect("not poisoned");
            if (desired.epoch, desired.generation) < (state.epoch, state.generation) {
                return Err(NodeError::Refused {
                    reason: "from the past".to_owned(),
                });
            }
            (state.epoch, state.generation) = (desired.epoch, desired.generation);
            state.incarnation = desired.incarnation;
            let paused = desired.members.iter().filter(|member| member.paused);
            state.paused = paused.map(|member| member.id).collect();
            for member in desired.members {
                let command = member.spec.session.command.clone();
                let known = state.members.remove(&member.id);
                if let Some(member) = after(member.id, known, &member.want, &command) {
                    state.members.insert(member.0, member.1);
                }
            }
        }
        self.report().await;
        Ok(())
    }

    /// Tells everything it has.
    pub(crate) async fn report(&self) {
        let report = {
            let mut state = self.state.lock().expect("not poisoned");
            state.sequence += 1;
            Report {
                node: self.node,
                sequence: state.sequence,
                incarnation: state.incarnation,
                epoch: state.epoch,
                generation: state.generation,
                members: state
                    .members
                    .iter()
                    .map(|(id, member)| ReportedMember {
                        id: *id,
                        state: member.state.clone(),
                        pause: match state.paused.contains(id) {
                            true => MemberPause::On,
                            false => MemberPause::Off,
                        },
                        unclaimed: false,
                        spec: None,
                    })
                    .collect(),
                settled: Vec::new(),
            }
        };
        self.changed.send_modify(|count| *count += 1);
        let manager = self.manager.lock().expect("not poisoned").clone();
        if let Some(manager) = manager {
            // A manager that is closed does not listen; the next one will be told everything.
            let _told = manager.report(report).await;
        }
    }

    /// Changes its members as a test wants, and reports.
    pub(crate) async fn change(&self, change: impl FnOnce(&mut BTreeMap<MemberId, Member>)) {
        change(&mut self.state.lock().expect("not poisoned").members);
        self.report().await;
    }

    pub(crate) fn members(&self) -> Vec<MemberId> {
        self.state
            .lock()
            .expect("not poisoned")
            .members
            .keys()
            .copied()
            .collect()
    }

    pub(crate) fn input(&self, member: MemberId) -> Vec<u8> {
        self.state.lock().expect("not poisoned").members[&member]
            .input
            .clone()
    }

    /// The next log streams break after a few bytes.
    pub(crate) fn break_streams(&self, times: usize) {
        self.state.lock().expect("not poisoned").breaks = times;
    }

    pub(crate) fn opened(&self) -> usize {
        self.state.lock().expect("not poisoned").opened
    }
}

fn after(
    id: MemberId,
    known: Option<Member>,
    want: &Want,
    command: &[String],
) -> Option<(MemberId, Member)> {
    let output = match command[0].as_str() {
        "flaky" => format!("attempt {}\n", id.attempt),
        _ => "hello\n".to_owned(),
    };
    let new = |state| Member {
        state,
        output: output.into_bytes(),
        input: vec![],
    };
    let member = match (known, want) {
        (_, Want::Purge { .. }) => return None,
        (None, Want::Stop { .. }) => {
            let how = ExitHow::NeverRan {
                reason: "it was stopped before it ran".to_owned(),
            };
            new(exited(id, how, ExitCause::Stopped))
        }
        (None, Want::Run) => {
            let state = begin(id, command);
            new(state)
        }
        (Some(mut member), Want::Stop { .. }) if member.state.occupies() => {
            let how = ExitHow::Signalled {
                signal: 15,
                core_dumped: false,
            };
            member.state = exited(id, how, ExitCause::Stopped);
            member
        }
        (Some(member), Want::Stop { .. } | Want::Run) => member,
    };
    Some((id, member))
}

fn begin(id: MemberId, command: &[String]) -> MemberState {
    match command[0].as_str() {
        "true" => exited(id, ExitHow::Exited { code: 0 }, ExitCause::Own),
        "exit" => {
            let code = command[1].parse().expect("a code");
            exited(id, ExitHow::Exited { code }, ExitCause::Own)
        }
        "flaky" => {
            let failures: u32 = command[1].parse().expect("a count");
            let code = u8::from(id.attempt <= failures);
            exited(id, ExitHow::Exited { code }, ExitCause::Own)
        }
        "slow" => MemberState::Preparing,
        _ => MemberState::Running { since: now() },
    }
}

#[async_trait]
impl NodeApi for FakeAgent {
    async fn desired(&self, desired: Desired) -> Result<(), NodeError> {
        self.obey(desired).await
    }

    async fn logs(&self, request: LogRequest) -> Result<LogChunkStream, NodeError> {
        let mut state = self.state.lock().expect("not poisoned");
        state.opened += 1;
        let unknown = NodeError::UnknownMember {
            member: request.member,
        };
        let member = state.members.get(&request.member).ok_or(unknown)?;
        let text = match request.stream {
            LogStream::Stdout => member.output.clone(),
            LogStream::Stderr => vec![],
        };
        let from = usize::try_from(request.offset)
            .expect("small")
            .min(text.len());
        let mut bytes = text[from..].to_vec();
        let offset = from as u64;
        if state.breaks > 0 && bytes.len() > 2 {
            state.breaks -= 1;
            bytes.truncate(2);
            let chunks = [
                Ok(LogChunk::Data { offset, bytes }),
                Err(NodeError::Disconnected),
            ];
            return Ok(stream::iter(chunks).boxed());
        }
        let end = LogChunk::End {
            offset: text.len() as u64,
        };
        let first = LogChunk::Data { offset, bytes };
        let lives = member.state.occupies();
        drop(state);
        let chunks = stream::iter([Ok(first)]);
        if !request.follow || !lives {
            return Ok(chunks.chain(stream::iter([Ok(end)])).boxed());
        }
        let mut changes = self.changed.subscribe();
        let last = stream::once(async move {
            // Whatever changes next is the end: tests do one thing at a time.
            let _changed = changes.changed().await;
            Ok(end)
        });
        Ok(chunks.chain(last).boxed())
    }

    async fn stdin(&self, request: StdinRequest) -> Result<StdinReply, NodeError> {
        let mut state = self.state.lock().expect("not poisoned");
        let unknown = NodeError::UnknownMember {
            member: request.member,
        };
        let member = state.members.get_mut(&request.member).ok_or(unknown)?;
        let have = member.input.len() as u64;
        if request.offset == have {
            // At most four bytes at a time, so that the rest has to be sent again.
            member.input.extend(request.bytes.iter().take(4));
        }
        let offset = member.input.len() as u64;
        let all = offset == request.offset + request.bytes.len() as u64;
        Ok(StdinReply {
            offset,
            closed: request.close && all,
        })
    }

    async fn signal(&self, request: SignalRequest) -> Result<(), NodeError> {
        let how = ExitHow::Signalled {
            signal: request.signal,
            core_dumped: false,
        };
        let end = exited(request.member, how, ExitCause::Own);
        self.change(|members| {
            members.get_mut(&request.member).expect("it is known").state = end;
        })
        .await;
        Ok(())
    }

    async fn join(
        &self,
        request: JoinRequest,
        input: ProcessInputStream,
    ) -> Result<ProcessOutputStream, NodeError> {
        let lives = {
            let state = self.state.lock().expect("not poisoned");
            let member = state.members.get(&request.member);
            member.is_some_and(|member| member.state.occupies())
        };
        if !lives {
            let member = request.member;
            return Err(NodeError::UnknownMember { member });
        }
        let first = match request.process {
            JoinedProcess::Exec { .. } => ProcessOutput::Started,
            JoinedProcess::Main { .. } => ProcessOutput::Joined {
                stdout: 0,
                stderr: 0,
                terminal: false,
                stdin: true,
            },
        };
        // Everything comes back as it was sent, until its end.
        let echoed = input.map(|input| match input {
            ProcessInput::Bytes { bytes } => ProcessOutput::Stdout { bytes },
            ProcessInput::Resize { size } => ProcessOutput::Stderr {
                bytes: format!("{}x{}", size.columns, size.rows).into_bytes(),
            },
            ProcessInput::Signal { signal } => ProcessOutput::Ended {
                how: ExitHow::Signalled {
                    signal,
                    core_dumped: false,
                },
                with_session: false,
            },
            ProcessInput::End => ProcessOutput::Ended {
                how: ExitHow::Exited { code: 3 },
                with_session: false,
            },
        });
        let all = stream::iter([first]).chain(echoed);
        Ok(all.map(Ok).chain(stream::pending()).boxed())
    }

    async fn download(&self, request: DownloadRequest) -> Result<ByteStream, NodeError> {
        let text = format!("files of {} at `{}`", request.member, request.path);
        Ok(stream::iter([Ok(text.into())]).boxed())
    }

    async fn preparation(&self, _: MemberId) -> Result<Option<Preparation>, NodeError> {
        Ok(None)
    }

    async fn usage(&self, _member: MemberId) -> Result<MemberUsage, NodeError> {
        Ok(MemberUsage {
            cpu_micros: 1_500_000,
            memory_bytes: 5 << 20,
            pids: 2,
            read_bytes: Some(7),
            pressure: Some(domain::Pressure {
                memory: domain::Stall {
                    recent_hundredths: 4_000,
                    total_micros: 9,
                },
                ..Default::default()
            }),
            sampled_micros: 1_000,
            ..Default::default()
        })
    }

    async fn all_usage(&self) -> Result<Vec<MemberSample>, NodeError> {
        let running: Vec<MemberId> = {
            let state = self.state.lock().expect("not poisoned");
            let running = state.members.iter().filter(|(_, m)| m.state.occupies());
            running.map(|(id, _)| *id).collect()
        };
        let mut samples = Vec::new();
        for member in running {
            let usage = self.usage(member).await?;
            samples.push(MemberSample { member, usage });
        }
        Ok(samples)
    }
}
