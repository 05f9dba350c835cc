//! What whoever serves the public API does; routes only translate to and from it.

use crate::arrays::{
    ArrayPage, ArrayQuery, ArrayView, CreateArray, CreatedArray, ElementPage, ElementQuery,
    ThrottleOrder,
};
use crate::caller::Caller;
use crate::events::{EventPage, EventPageQuery, EventQuery, PublicEvent};
use crate::images::{ImageListView, ImageView, ImportQuery, ImportedView, RemovedImagesView};
use crate::log_frames::LogFrame;
use crate::nodes::{DrainNode, NodeView, UnclaimedView};
use crate::pauses::Hold;
use crate::priorities::PriorityOrder;
use crate::problem::Problem;
use crate::processes::{AttachOrder, ClientMessage, ExecOrder, ServerMessage};
use crate::sessions::{
    ChangeSession, CreateSession, Created, FilesQuery, ListQuery, LogQuery, OutputStream,
    SessionPage, SessionView, SignalOrder, StdinQuery, StdinView, StopSession, UploadView,
    UsageView,
};
use crate::site::{ShutdownOrder, ShutdownView, SiteView};
use crate::usage::SiteUsageView;
use crate::why::Why;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

/// A body that comes in parts.
pub type ByteStream = BoxStream<'static, Result<Bytes, Problem>>;
/// Output that comes in parts.
pub type LogFrameStream = BoxStream<'static, Result<LogFrame, Problem>>;
/// Output of one attempt.
pub struct LogOutput {
    /// Which, from 1.
    pub attempt: u32,
    /// The output, up to and with its end.
    pub frames: LogFrameStream,
}

impl std::fmt::Debug for LogOutput {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = out.debug_struct("LogOutput");
        out.field("attempt", &self.attempt).finish_non_exhaustive()
    }
}

/// Events as they are committed.
pub type EventStream = BoxStream<'static, Result<PublicEvent, Problem>>;
/// What a client of a process sends after its order. Its end means nothing: the client may go on
/// to watch.
pub type ClientMessageStream = BoxStream<'static, ClientMessage>;
/// What a client of a process is sent.
pub type ServerMessageStream = BoxStream<'static, Result<ServerMessage, Problem>>;

/// The public API without HTTP. `session` is an id or a name; a name means the living session of
/// that name, else the newest ended one; `NAME.INDEX` or `ID.INDEX` means an element of an array.
/// `array` likewise is an id or a name. Everything is checked against the caller: another
/// tenant's object does not exist.
#[async_trait]
pub trait Service: Send + Sync + std::fmt::Debug {
    /// The site.
    async fn site(&self, caller: &Caller) -> Result<SiteView, Problem>;
    /// Its nodes; operators only.
    async fn nodes(&self, caller: &Caller) -> Result<Vec<NodeView>, Problem>;
    /// One of them, by id or name; operators only.
    async fn node(&self, caller: &Caller, node: &str) -> Result<NodeView, Problem>;
    /// Gives a node nothing new from now on; operators only.
    async fn drain_node(
        &self,
        caller: &Caller,
        node: &str,
        order: DrainNode,
    ) -> Result<NodeView, Problem>;
    /// Takes a drained node back; operators only.
    async fn undrain_node(&self, caller: &Caller, node: &str) -> Result<NodeView, Problem>;
    /// Takes a node out of the site; `lost`: by the operator's word its machine is gone for ever.
    /// Operators only.
    async fn remove_node(&self, caller: &Caller, node: &str, lost: bool) -> Result<(), Problem>;
    /// Members that no session claims; operators only.
    async fn unclaimed(&self, caller: &Caller) -> Result<Vec<UnclaimedView>, Problem>;
    /// Ends a member that no session claims and keeps what it leaves; operators only.
    async fn stop_unclaimed(
        &self,
        caller: &Caller,
        member: &str,
        order: StopSession,
    ) -> Result<(), Problem>;
    /// Ends a member that no session claims, if it lives, and removes what it leaves; operators
    /// only.
    async fn remove_unclaimed(&self, caller: &Caller, member: &str) -> Result<(), Problem>;
    /// Stages an archive (tar) for a session to come.
    async fn upload(&self, caller: &Caller, body: ByteStream) -> Result<UploadView, Problem>;
    /// Makes a session; returns when that is durable.
    async fn create(
        &self,
        caller: &Caller,
        request: CreateSession,
        idempotency_key: Option<String>,
    ) -> Result<Created, Problem>;
    /// A page of sessions, newest first.
    async fn list(&self, caller: &Caller, query: ListQuery) -> Result<SessionPage, Problem>;
    /// One session.
    async fn session(&self, caller: &Caller, session: &str) -> Result<SessionView, Problem>;
    /// Asks for a session to end; returns when the intention is durable.
    async fn stop(
        &self,
        caller: &Caller,
        session: &str,
        order: StopSession,
    ) -> Result<SessionView, Problem>;
    /// Asks for a session that runs to stand still, or for one that is paused to go on; returns
    /// when that is durable.
    async fn hold(
        &self,
        caller: &Caller,
        session: &str,
        hold: Hold,
    ) -> Result<SessionView, Problem>;
    /// Gives a session that has not ended another priority; returns when that is durable.
    async fn prioritize(
        &self,
        caller: &Caller,
        session: &str,
        order: PriorityOrder,
    ) -> Result<SessionView, Problem>;
    /// Asks for a session to be removed; returns when the intention is durable.
    async fn remove(
        &self,
        caller: &Caller,
        session: &str,
        force: bool,
    ) -> Result<SessionView, Problem>;
    /// Makes an array, all of it or nothing; returns when that is durable.
    async fn create_array(
        &self,
        caller: &Caller,
        request: CreateArray,
        idempotency_key: Option<String>,
    ) -> Result<CreatedArray, Problem>;
    /// A page of arrays, newest first.
    async fn arrays(&self, caller: &Caller, query: ArrayQuery) -> Result<ArrayPage, Problem>;
    /// One array with its counts.
    async fn array(&self, caller: &Caller, array: &str) -> Result<ArrayView, Problem>;
    /// A page of the table of its elements, by index.
    async fn elements(
        &self,
        caller: &Caller,
        array: &str,
        query: ElementQuery,
    ) -> Result<ElementPage, Problem>;
    /// Changes how many elements may live at a time; returns when that is durable.
    async fn throttle_array(
        &self,
        caller: &Caller,
        array: &str,
        order: ThrottleOrder,
    ) -> Result<ArrayView, Problem>;
    /// Gives all elements another priority; returns when that is durable.
    async fn prioritize_array(
        &self,
        caller: &Caller,
        array: &str,
        order: PriorityOrder,
    ) -> Result<ArrayView, Problem>;
    /// Asks for every living element to end; returns when the intention is durable for all.
    async fn stop_array(
        &self,
        caller: &Caller,
        array: &str,
        order: StopSession,
    ) -> Result<ArrayView, Problem>;
    /// Asks for every element that runs to stand still, or for every paused one to go on; returns
    /// when that is durable for all.
    async fn hold_array(
        &self,
        caller: &Caller,
        array: &str,
        hold: Hold,
    ) -> Result<ArrayView, Problem>;
    /// Asks for every element to be removed; returns when the intention is durable for all. The
    /// array goes with its last element.
    async fn remove_array(
        &self,
        caller: &Caller,
        array: &str,
        force: bool,
    ) -> Result<ArrayView, Problem>;
    /// Gives a session another name; returns when that is durable.
    async fn change(
        &self,
        caller: &Caller,
        session: &str,
        change: ChangeSession,
    ) -> Result<SessionView, Problem>;
    /// Signals a session's command.
    async fn signal(
        &self,
        caller: &Caller,
        session: &str,
        order: SignalOrder,
    ) -> Result<(), Problem>;
    /// Why a session is where it is.
    async fn why(&self, caller: &Caller, session: &str) -> Result<Why, Problem>;
    /// What a session uses now.
    async fn usage(&self, caller: &Caller, session: &str) -> Result<UsageView, Problem>;
    /// What every session of the caller uses now.
    async fn site_usage(&self, caller: &Caller) -> Result<SiteUsageView, Problem>;
    /// A session's output. With `follow` it waits for a session that has not started, and goes on
    /// until the session has ended. Either way its last frame is [`LogFrame::End`], without
    /// `follow` where the output stands: whoever reads takes a stream without it for cut off.
    async fn logs(
        &self,
        caller: &Caller,
        session: &str,
        stream: OutputStream,
        query: LogQuery,
    ) -> Result<LogOutput, Problem>;
    /// Writes to a session's standard input. Waits, at most a few seconds, for a session that has
    /// not started; then answers with the offset it stands at.
    async fn stdin(
        &self,
        caller: &Caller,
        session: &str,
        query: StdinQuery,
        bytes: Bytes,
    ) -> Result<StdinView, Problem>;
    /// Runs a further command in a session, and joins the client to it. Waits, at most a few
    /// seconds, for a session that has not started. A command that is not detached is hung up
    /// when the answer is dropped before its end.
    async fn exec(
        &self,
        caller: &Caller,
        session: &str,
        order: ExecOrder,
        input: ClientMessageStream,
    ) -> Result<ServerMessageStream, Problem>;
    /// Joins the client to a session's main command; waits for it like [`Service::exec`].
    async fn attach(
        &self,
        caller: &Caller,
        session: &str,
        order: AttachOrder,
        input: ClientMessageStream,
    ) -> Result<ServerMessageStream, Problem>;
    /// Files of a session, as a tar archive.
    async fn files(
        &self,
        caller: &Caller,
        session: &str,
        query: FilesQuery,
    ) -> Result<ByteStream, Problem>;
    /// A page of what has happened.
    async fn event_page(
        &self,
        caller: &Caller,
        query: EventPageQuery,
    ) -> Result<EventPage, Problem>;
    /// Imports an image from an archive; returns when it is durable. What is refused, or cut off,
    /// leaves nothing.
    async fn import_image(
        &self,
        caller: &Caller,
        query: ImportQuery,
        body: ByteStream,
    ) -> Result<ImportedView, Problem>;
    /// The images. In these calls `image` is a name, an id, or the beginning of one.
    async fn images(&self, caller: &Caller) -> Result<ImageListView, Problem>;
    /// One image.
    async fn image(&self, caller: &Caller, image: &str) -> Result<ImageView, Problem>;
    /// Removes an image, or a name of one that has others; refused while living sessions use it.
    async fn remove_image(
        &self,
        caller: &Caller,
        image: &str,
    ) -> Result<RemovedImagesView, Problem>;
    /// Removes the caller's images that have no name and that no living session uses.
    async fn prune_images(&self, caller: &Caller) -> Result<RemovedImagesView, Problem>;
    /// What happened and happens.
    async fn events(&self, caller: &Caller, query: EventQuery) -> Result<EventStream, Problem>;
    /// Takes the site down; operators only.
    async fn shutdown(
        &self,
        caller: &Caller,
        order: ShutdownOrder,
    ) -> Result<ShutdownView, Problem>;

    /// Refuses everything while nobody can tell whether another manager leads.
    fn standing(&self) -> Result<(), Problem> {
        Ok(())
    }

    /// Number of the last commit that reads show. Taken after an answer was made, so that whoever
    /// sends it back reads at least what they were answered; 0 tells nothing.
    fn committed(&self) -> u64 {
        0
    }

    /// Returns once reads show `commit`. It may never: callers set a limit of their own.
    async fn wait_committed(&self, commit: u64) {
        let _ = commit;
    }
}
