//! A service that answers what it is told to and remembers what it was asked.

mod answers;
mod views;

use answers::{echo, image, node};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use public_api::{
    ArrayPage, ArrayQuery, ArrayView, AttachOrder, Build, ByteStream, Caller, ChangeSession,
    ClientMessageStream, CreateArray, CreateSession, Created, CreatedArray, DrainNode, ElementPage,
    ElementQuery, EventPage, EventPageQuery, EventQuery, EventStream, ExecOrder, FilesQuery, Hold,
    ImageListView, ImageView, ImportQuery, ImportedView, JoinedView, ListQuery, LogFrame,
    LogOutput, LogQuery, NodeView, OutputStream, PriorityOrder, Problem, ProblemCode, ProcessEvent,
    PublicEvent, RemovedImagesView, ServerMessage, ServerMessageStream, Service, SessionPage,
    SessionView, ShutdownOrder, ShutdownView, SignalOrder, SiteUsageView, SiteView, StdinQuery,
    StdinView, StopSession, ThrottleOrder, UnclaimedView, UploadView, UsageView, Why,
};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// What is remembered and what is answered.
#[derive(Debug)]
pub(crate) struct Fake {
    /// What was asked, as `verb arguments`.
    pub(crate) asked: Mutex<Vec<String>>,
    /// Who asked last.
    pub(crate) caller: Mutex<Option<Caller>>,
    /// Answers everything, if there is one.
    pub(crate) problem: Mutex<Option<ProblemCode>>,
    /// Ends output without its end.
    pub(crate) cut: Mutex<bool>,
    /// Lets output go on for ever after its first bytes.
    pub(crate) endless: Mutex<bool>,
    /// Refuses uploads without reading them.
    pub(crate) refuse_uploads: Mutex<bool>,
    /// The state of the only session.
    pub(crate) state: Mutex<&'static str>,
    /// Its clones are held by clients that are joined to a process.
    pub(crate) joined: Arc<()>,
    /// The last commit.
    pub(crate) commit: watch::Sender<u64>,
}

impl Fake {
    pub(crate) fn new() -> Self {
        Self {
            asked: Mutex::default(),
            caller: Mutex::default(),
            problem: Mutex::default(),
            cut: Mutex::default(),
            endless: Mutex::default(),
            refuse_uploads: Mutex::default(),
            state: Mutex::new("running"),
            joined: Arc::default(),
            commit: watch::Sender::new(7),
        }
    }

    pub(crate) fn last_asked(&self) -> String {
        let asked = self.asked.lock().expect("no test panics with it");
        asked.last().cloned().unwrap_or_default()
    }

    fn note(&self, caller: &Caller, what: String) -> Result<(), Box<Problem>> {
        *self.caller.lock().expect("no test panics with it") = Some(caller.clone());
        self.asked
            .lock()
            .expect("no test panics with it")
            .push(what);
        match *self.problem.lock().expect("no test panics with it") {
            Some(code) => Err(Box::new(Problem::new(code, "as the test ordered"))),
            None => Ok(()),
        }
    }
}

macro_rules! note {
    ($fake:expr, $caller:expr, $($what:tt)*) => {
        $fake.note($caller, format!($($what)*)).map_err(|problem| *problem)?
    };
}

#[async_trait]
impl Service for Fake {
    async fn site(&self, caller: &Caller) -> Result<SiteView, Problem> {
        note!(self, caller, "site");
        Ok(SiteView {
            site: "s".to_owned(),
            build: Build {
                version: "0".to_owned(),
                id: "b".to_owned(),
                made_at: 0,
            },
            pid: 1,
            started_at: "2026-01-01T00:00:00Z".to_owned(),
            home: "/h".to_owned(),
            log_file: "/h/l".to_owned(),
            commit: self.committed(),
            living_sessions: 1,
            address: None,
            refused_nodes: Vec::new(),
        })
    }

    async fn nodes(&self, caller: &Caller) -> Result<Vec<NodeView>, Problem> {
        note!(self, caller, "nodes");
        Ok(Vec::new())
    }

    async fn node(&self, caller: &Caller, asked: &str) -> Result<NodeView, Problem> {
        note!(self, caller, "node {asked}");
        Ok(node())
    }

    async fn drain_node(
        &self,
        caller: &Caller,
        asked: &str,
        order: DrainNode,
    ) -> Result<NodeView, Problem> {
        note!(self, caller, "drain {asked} {order:?}");
        Ok(node())
    }

    async fn undrain_node(&self, caller: &Caller, asked: &str) -> Result<NodeView, Problem> {
        note!(self, caller, "undrain {asked}");
        Ok(node())
    }

    async fn remove_node(&self, caller: &Caller, asked: &str, lost: bool) -> Result<(), Problem> {
        note!(self, caller, "remove node {asked} {lost}");
        Ok(())
    }

    async fn unclaimed(&self, caller: &Caller) -> Result<Vec<UnclaimedView>, Problem> {
        note!(self, caller, "unclaimed");
        Ok(Vec::new())
    }

    async fn stop_unclaimed(
        &self,
        caller: &Caller,
        member: &str,
        order: StopSession,
    ) -> Result<(), Problem> {
        note!(self, caller, "stop unclaimed {member} {order:?}");
        Ok(())
    }

    async fn remove_unclaimed(&self, caller: &Caller, member: &str) -> Result<(), Problem> {
        note!(self, caller, "remove unclaimed {member}");
        Ok(())
    }

    async fn import_image(
        &self,
        caller: &Caller,
        query: ImportQuery,
        mut body: ByteStream,
    ) -> Result<ImportedView, Problem> {
        note!(self, caller, "import_image {query:?}");
        while let Some(part) = body.next().await {
            part?;
        }
        Ok(ImportedView {
            image: image("one"),
            already: false,
            name: query.name,
            moved_from: None,
            form: "docker save".to_owned(),
            references: Vec::new(),
            dropped: Vec::new(),
        })
    }

    async fn images(&self, caller: &Caller) -> Result<ImageListView, Problem> {
        note!(self, caller, "images");
        let images = vec![image("one")];
        Ok(ImageListView { images })
    }

    async fn image(&self, caller: &Caller, asked: &str) -> Result<ImageView, Problem> {
        note!(self, caller, "image {asked}");
        Ok(image(asked))
    }

    async fn remove_image(
        &self,
        caller: &Caller,
        asked: &str,
    ) -> Result<RemovedImagesView, Problem> {
        note!(self, caller, "remove_image {asked}");
        Ok(RemovedImagesView::default())
    }

    async fn prune_images(&self, caller: &Caller) -> Result<RemovedImagesView, Problem> {
        note!(self, caller, "prune_images");
        Ok(RemovedImagesView::default())
    }

    async fn upload(&self, caller: &Caller, mut body: ByteStream) -> Result<UploadView, Problem> {
        note!(self, caller, "upload");
        if *self.refuse_uploads.lock().expect("no test panics with it") {
            return Err(Problem::new(ProblemCode::DiskFull, "no room"));
        }
        let mut bytes = 0;
        while let Some(part) = body.next().await {
            bytes += part?.len() as u64;
        }
        let id = "u".to_owned();
        Ok(UploadView { id, bytes })
    }

    async fn create(
        &self,
        caller: &Caller,
        request: CreateSession,
        idempotency_key: Option<String>,
    ) -> Result<Created, Problem> {
        note!(
            self,
            caller,
            "create {:?} {idempotency_key:?}",
            request.command
        );
        self.commit.send_modify(|commit| *commit += 1);
        Ok(Created {
            session: self.view("new"),
            already: idempotency_key.as_deref() == Some("again"),
        })
    }

    async fn list(&self, caller: &Caller, query: ListQuery) -> Result<SessionPage, Problem> {
        note!(self, caller, "list {query:?}");
        Ok(SessionPage {
            sessions: vec![self.view("one")],
            arrays: Vec::new(),
            next_cursor: None,
        })
    }

    async fn session(&self, caller: &Caller, session: &str) -> Result<SessionView, Problem> {
        note!(self, caller, "session {session}");
        Ok(self.view(session))
    }

    async fn stop(
        &self,
        caller: &Caller,
        session: &str,
        order: StopSession,
    ) -> Result<SessionView, Problem> {
        note!(self, caller, "stop {session} {order:?}");
        Ok(self.view(session))
    }

    async fn hold(
        &self,
        caller: &Caller,
        session: &str,
        hold: Hold,
    ) -> Result<SessionView, Problem> {
        note!(self, caller, "{hold:?} {session}");
        Ok(self.view(session))
    }

    async fn hold_array(
        &self,
        caller: &Caller,
        array: &str,
        hold: Hold,
    ) -> Result<ArrayView, Problem> {
        note!(self, caller, "{hold:?} array {array}");
        Ok(self.array_view(array))
    }

    async fn remove(
        &self,
        caller: &Caller,
        session: &str,
        force: bool,
    ) -> Result<SessionView, Problem> {
        note!(self, caller, "remove {session} {force}");
        Ok(self.view(session))
    }

    async fn create_array(
        &self,
        caller: &Caller,
        request: CreateArray,
        idempotency_key: Option<String>,
    ) -> Result<CreatedArray, Problem> {
        note!(
            self,
            caller,
            "create array of {} {idempotency_key:?}",
            request.elements.len()
        );
        Ok(CreatedArray {
            array: self.array_view("new"),
            already: idempotency_key.as_deref() == Some("again"),
        })
    }

    async fn arrays(&self, caller: &Caller, query: ArrayQuery) -> Result<ArrayPage, Problem> {
        note!(self, caller, "arrays {query:?}");
        Ok(ArrayPage {
            arrays: vec![self.array_view("one")],
            next_cursor: None,
        })
    }

    async fn array(&self, caller: &Caller, array: &str) -> Result<ArrayView, Problem> {
        note!(self, caller, "array {array}");
        Ok(self.array_view(array))
    }

    async fn elements(
        &self,
        caller: &Caller,
        array: &str,
        query: ElementQuery,
    ) -> Result<ElementPage, Problem> {
        note!(self, caller, "elements {array} {query:?}");
        Ok(ElementPage {
            elements: Vec::new(),
            next_cursor: None,
        })
    }

    async fn prioritize(
        &self,
        caller: &Caller,
        session: &str,
        order: PriorityOrder,
    ) -> Result<SessionView, Problem> {
        note!(self, caller, "priority of {session} {}", order.priority);
        Ok(self.view(session))
    }

    async fn prioritize_array(
        &self,
        caller: &Caller,
        array: &str,
        order: PriorityOrder,
    ) -> Result<ArrayView, Problem> {
        note!(self, caller, "priority of array {array} {}", order.priority);
        Ok(self.array_view(array))
    }

    async fn throttle_array(
        &self,
        caller: &Caller,
        array: &str,
        order: ThrottleOrder,
    ) -> Result<ArrayView, Problem> {
        note!(self, caller, "throttle {array} {:?}", order.throttle);
        Ok(self.array_view(array))
    }

    async fn stop_array(
        &self,
        caller: &Caller,
        array: &str,
        order: StopSession,
    ) -> Result<ArrayView, Problem> {
        note!(self, caller, "stop array {array} {order:?}");
        Ok(self.array_view(array))
    }

    async fn remove_array(
        &self,
        caller: &Caller,
        array: &str,
        force: bool,
    ) -> Result<ArrayView, Problem> {
        note!(self, caller, "remove array {array} {force}");
        Ok(self.array_view(array))
    }

    async fn change(
        &self,
        caller: &Caller,
        session: &str,
        change: ChangeSession,
    ) -> Result<SessionView, Problem> {
        note!(self, caller, "change {session} {}", change.name);
        Ok(self.view(session))
    }

    async fn site_usage(&self, caller: &Caller) -> Result<SiteUsageView, Problem> {
        note!(self, caller, "site usage");
        Ok(SiteUsageView::default())
    }

    async fn signal(
        &self,
        caller: &Caller,
        session: &str,
        order: SignalOrder,
    ) -> Result<(), Problem> {
        note!(self, caller, "signal {session} {}", order.signal);
        Ok(())
    }

    async fn why(&self, caller: &Caller, session: &str) -> Result<Why, Problem> {
        note!(self, caller, "why {session}");
        Ok(Why {
            session: session.to_owned(),
            state: "running".to_owned(),
            summary: "it runs".to_owned(),
            nodes: Vec::new(),
            evidence: Vec::new(),
            suggestion: None,
        })
    }

    async fn usage(&self, caller: &Caller, session: &str) -> Result<UsageView, Problem> {
        note!(self, caller, "usage {session}");
        Ok(UsageView::default())
    }

    async fn logs(
        &self,
        caller: &Caller,
        session: &str,
        stream: OutputStream,
        query: LogQuery,
    ) -> Result<LogOutput, Problem> {
        note!(self, caller, "logs {session} {stream:?} {query:?}");
        let mut frames = vec![
            Ok(LogFrame::Data {
                offset: query.offset,
                bytes: Bytes::from_static(b"hello"),
            }),
            Ok(LogFrame::Gap {
                offset: query.offset + 5,
                bytes: 10,
            }),
        ];
        let attempt = query.attempt.unwrap_or(1);
        if *self.cut.lock().expect("no test panics with it") {
            let frames = stream::iter(frames).boxed();
            return Ok(LogOutput { attempt, frames });
        }
        if *self.endless.lock().expect("no test panics with it") {
            let frames = stream::iter(frames).chain(stream::pending()).boxed();
            return Ok(LogOutput { attempt, frames });
        }
        let offset = query.offset + 15;
        frames.push(Ok(LogFrame::End { offset }));
        // What comes after the end must never be seen.
        frames.push(Ok(LogFrame::Alive));
        let frames = stream::iter(frames).boxed();
        Ok(LogOutput { attempt, frames })
    }

    async fn stdin(
        &self,
        caller: &Caller,
        session: &str,
        query: StdinQuery,
        bytes: Bytes,
    ) -> Result<StdinView, Problem> {
        note!(self, caller, "stdin {session} {query:?} {}", bytes.len());
        Ok(StdinView {
            offset: query.offset.saturating_add(bytes.len() as u64),
            closed: query.close,
        })
    }

    async fn exec(
        &self,
        caller: &Caller,
        session: &str,
        order: ExecOrder,
        input: ClientMessageStream,
    ) -> Result<ServerMessageStream, Problem> {
        note!(self, caller, "exec {session} {:?}", order.command);
        let first = ServerMessage::Event(ProcessEvent::Started);
        let silent = order.command.first().is_some_and(|word| word == "silent");
        let input = if silent {
            stream::pending().boxed()
        } else {
            input
        };
        Ok(echo(first, input, Arc::clone(&self.joined)))
    }

    async fn attach(
        &self,
        caller: &Caller,
        session: &str,
        order: AttachOrder,
        input: ClientMessageStream,
    ) -> Result<ServerMessageStream, Problem> {
        note!(self, caller, "attach {session}");
        let first = ServerMessage::Event(ProcessEvent::Joined(JoinedView {
            stdout: order.stdout.unwrap_or(7),
            stderr: 0,
            terminal: order.terminal.is_some(),
            stdin: true,
        }));
        Ok(echo(first, input, Arc::clone(&self.joined)))
    }

    async fn files(
        &self,
        caller: &Caller,
        session: &str,
        query: FilesQuery,
    ) -> Result<ByteStream, Problem> {
        note!(self, caller, "files {session} {query:?}");
        let mut parts = vec![
            Ok(Bytes::from_static(b"some ")),
            Ok(Bytes::from_static(b"tar")),
        ];
        if *self.cut.lock().expect("no test panics with it") {
            parts.push(Err(Problem::new(ProblemCode::NodeUnreachable, "gone")));
        }
        Ok(stream::iter(parts).boxed())
    }

    async fn event_page(
        &self,
        caller: &Caller,
        query: EventPageQuery,
    ) -> Result<EventPage, Problem> {
        note!(self, caller, "event page {query:?}");
        Ok(EventPage::default())
    }

    async fn events(&self, caller: &Caller, query: EventQuery) -> Result<EventStream, Problem> {
        note!(self, caller, "events {query:?}");
        let first = query.after.unwrap_or(0);
        let event = |number| PublicEvent {
            number,
            at: "2026-01-01T00:00:00Z".to_owned(),
            session: Some("one".to_owned()),
            array: None,
            session_name: Some("a".to_owned()),
            array_name: None,
            node: None,
            node_name: None,
            code: "session.running".to_owned(),
            message: "it runs\nwell".to_owned(),
        };
        let mut events = vec![
            Ok(event(first.saturating_add(1))),
            Ok(event(first.saturating_add(2))),
        ];
        if *self.cut.lock().expect("no test panics with it") {
            events.push(Err(Problem::new(ProblemCode::Unavailable, "going down")));
        }
        Ok(stream::iter(events).boxed())
    }

    async fn shutdown(
        &self,
        caller: &Caller,
        order: ShutdownOrder,
    ) -> Result<ShutdownView, Problem> {
        note!(self, caller, "shutdown {:?}", order.mode);
        Ok(ShutdownView {
            pid: 1,
            living_sessions: 0,
        })
    }

    fn committed(&self) -> u64 {
        *self.commit.borrow()
    }

    async fn wait_committed(&self, commit: u64) {
        let mut changes = self.commit.subscribe();
        let reached = changes.wait_for(|now| *now >= commit).await;
        reached.expect("the sender is in self");
    }
}
