//! The public API's service: checks what is asked, has the leader do it, and shows what is
//! committed.

mod after;
mod arrays;
mod convert;
mod create;
mod events;
mod files;
mod image_settings;
mod images;
mod input;
mod list;
mod logs;
mod mounts;
mod nodes;
mod pause;
mod priority;
mod problems;
mod processes;
mod rename;
mod resolve;
mod shutdown;
mod stop;
mod unclaimed;
mod usage;
mod validate;
mod why;

use crate::manager::Manager;
use async_trait::async_trait;
use bytes::Bytes;
use domain::{NodeId, SessionRecord};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use node_api::NodeApi;
use public_api::{
    ArrayPage, ArrayQuery, ArrayView, AttachOrder, ByteStream, Caller, ChangeSession,
    ClientMessageStream, CreateArray, CreateSession, Created, CreatedArray, DrainNode, ElementPage,
    ElementQuery, EventPage, EventPageQuery, EventQuery, EventStream, ExecOrder, FilesQuery, Hold,
    ImageListView, ImageView, ImportQuery, ImportedView, ListQuery, LogOutput, LogQuery, NodeView,
    OutputStream, PriorityOrder, Problem, ProblemCode, RemovedImagesView, ServerMessageStream,
    Service, SessionPage, SessionView, ShutdownOrder, ShutdownView, SignalOrder, SiteUsageView,
    SiteView, StdinQuery, StdinView, StopSession, ThrottleOrder, UnclaimedView, UploadView,
    UsageView, Why,
};
use std::sync::Arc;
use tokio::sync::mpsc;

/// The service over a manager. Clones are the same service.
#[derive(Clone, Debug)]
pub(crate) struct SiteService {
    pub(crate) manager: Arc<Manager>,
}

impl SiteService {
    pub(crate) fn new(manager: Arc<Manager>) -> Self {
        Self { manager }
    }

    /// Refuses new work while the site goes down.
    fn check_open(&self) -> Result<(), Problem> {
        if self.manager.is_closing() {
            let detail = "the site is going down";
            return Err(Problem::new(ProblemCode::Unavailable, detail));
        }
        Ok(())
    }

    /// How to call a node.
    fn node_api(&self, node: NodeId) -> Result<Arc<dyn NodeApi>, Problem> {
        self.manager.nodes.api(node).ok_or_else(|| {
            let detail = format!("the node {} is not connected", self.node_name(node));
            Problem::new(ProblemCode::NodeUnreachable, detail)
        })
    }

    fn node_name(&self, node: NodeId) -> String {
        let shared = &self.manager.shared;
        let name = shared.read(|view| view.nodes.get(&node).map(|node| node.name.clone()));
        name.unwrap_or_else(|| node.to_string())
    }

    fn show(&self, record: &SessionRecord) -> SessionView {
        self.manager
            .shared
            .read(|view| convert::session_view(record, &view.nodes))
    }
}

/// What a task sends, as a stream that ends with it.
fn stream_of<T: Send + 'static>(receiver: mpsc::Receiver<T>) -> BoxStream<'static, T> {
    let next = |mut receiver: mpsc::Receiver<T>| async {
        receiver.recv().await.map(|item| (item, receiver))
    };
    stream::unfold(receiver, next).boxed()
}

#[async_trait]
impl Service for SiteService {
    async fn site(&self, _caller: &Caller) -> Result<SiteView, Problem> {
        Ok(self.site_view())
    }

    async fn nodes(&self, caller: &Caller) -> Result<Vec<NodeView>, Problem> {
        self.list_nodes(caller)
    }

    async fn node(&self, caller: &Caller, node: &str) -> Result<NodeView, Problem> {
        self.show_node(caller, node)
    }

    async fn drain_node(
        &self,
        caller: &Caller,
        node: &str,
        order: DrainNode,
    ) -> Result<NodeView, Problem> {
        self.order_drain(caller, node, order).await
    }

    async fn undrain_node(&self, caller: &Caller, node: &str) -> Result<NodeView, Problem> {
        self.take_back(caller, node).await
    }

    async fn remove_node(&self, caller: &Caller, node: &str, lost: bool) -> Result<(), Problem> {
        self.take_out(caller, node, lost).await
    }

    async fn unclaimed(&self, caller: &Caller) -> Result<Vec<UnclaimedView>, Problem> {
        self.list_unclaimed(caller)
    }

    async fn stop_unclaimed(
        &self,
        caller: &Caller,
        member: &str,
        order: StopSession,
    ) -> Result<(), Problem> {
        self.stop_unclaimed_member(caller, member, order).await
    }

    async fn remove_unclaimed(&self, caller: &Caller, member: &str) -> Result<(), Problem> {
        self.remove_unclaimed_member(caller, member).await
    }

    async fn upload(&self, _caller: &Caller, body: ByteStream) -> Result<UploadView, Problem> {
        self.check_open()?;
        self.stage_upload(body).await
    }

    async fn create(
        &self,
        caller: &Caller,
        request: CreateSession,
        idempotency_key: Option<String>,
    ) -> Result<Created, Problem> {
        self.check_open()?;
        self.create_session(caller, request, idempotency_key).await
    }

    async fn list(&self, caller: &Caller, query: ListQuery) -> Result<SessionPage, Problem> {
        self.list_sessions(caller, query).await
    }

    async fn session(&self, caller: &Caller, session: &str) -> Result<SessionView, Problem> {
        let record = self.resolve(caller, session).await?;
        Ok(self.show(&record))
    }

    async fn stop(
        &self,
        caller: &Caller,
        session: &str,
        order: StopSession,
    ) -> Result<SessionView, Problem> {
        self.stop_session(caller, session, order).await
    }

    async fn hold(
        &self,
        caller: &Caller,
        session: &str,
        hold: Hold,
    ) -> Result<SessionView, Problem> {
        self.hold_session(caller, session, hold).await
    }

    async fn prioritize(
        &self,
        caller: &Caller,
        session: &str,
        order: PriorityOrder,
    ) -> Result<SessionView, Problem> {
        self.prioritize_session(caller, session, order).await
    }

    async fn remove(
        &self,
        caller: &Caller,
        session: &str,
        force: bool,
    ) -> Result<SessionView, Problem> {
        let living = if force {
            stop::Living::Stop
        } else {
            stop::Living::Refuse
        };
        self.remove_session(caller, session, living).await
    }

    async fn create_array(
        &self,
        caller: &Caller,
        request: CreateArray,
        idempotency_key: Option<String>,
    ) -> Result<CreatedArray, Problem> {
        self.check_open()?;
        self.make_array(caller, request, idempotency_key).await
    }

    async fn arrays(&self, caller: &Caller, query: ArrayQuery) -> Result<ArrayPage, Problem> {
        self.list_arrays(caller, query).await
    }

    async fn array(&self, caller: &Caller, array: &str) -> Result<ArrayView, Problem> {
        self.show_array(caller, array).await
    }

    async fn elements(
        &self,
        caller: &Caller,
        array: &str,
        query: ElementQuery,
    ) -> Result<ElementPage, Problem> {
        self.list_elements(caller, array, query).await
    }

    async fn throttle_array(
        &self,
        caller: &Caller,
        array: &str,
        order: ThrottleOrder,
    ) -> Result<ArrayView, Problem> {
        self.change_throttle(caller, array, order).await
    }

    async fn prioritize_array(
        &self,
        caller: &Caller,
        array: &str,
        order: PriorityOrder,
    ) -> Result<ArrayView, Problem> {
        self.prioritize_elements(caller, array, order).await
    }

    async fn stop_array(
        &self,
        caller: &Caller,
        array: &str,
        order: StopSession,
    ) -> Result<ArrayView, Problem> {
        self.stop_elements(caller, array, order).await
    }

    async fn hold_array(
        &self,
        caller: &Caller,
        array: &str,
        hold: Hold,
    ) -> Result<ArrayView, Problem> {
        self.hold_elements(caller, array, hold).await
    }

    async fn remove_array(
        &self,
        caller: &Caller,
        array: &str,
        force: bool,
    ) -> Result<ArrayView, Problem> {
        let living = if force {
            stop::Living::Stop
        } else {
            stop::Living::Refuse
        };
        self.remove_elements(caller, array, living).await
    }

    async fn change(
        &self,
        caller: &Caller,
        session: &str,
        change: ChangeSession,
    ) -> Result<SessionView, Problem> {
        self.rename_session(caller, session, change).await
    }

    async fn signal(
        &self,
        caller: &Caller,
        session: &str,
        order: SignalOrder,
    ) -> Result<(), Problem> {
        self.signal_session(caller, session, order).await
    }

    async fn why(&self, caller: &Caller, session: &str) -> Result<Why, Problem> {
        self.why_session(caller, session).await
    }

    async fn usage(&self, caller: &Caller, session: &str) -> Result<UsageView, Problem> {
        self.usage_of(caller, session).await
    }

    async fn site_usage(&self, caller: &Caller) -> Result<SiteUsageView, Problem> {
        Ok(self.usage_of_all(caller).await)
    }

    async fn logs(
        &self,
        caller: &Caller,
        session: &str,
        stream: OutputStream,
        query: LogQuery,
    ) -> Result<LogOutput, Problem> {
        self.follow_output(caller, session, stream, query).await
    }

    async fn stdin(
        &self,
        caller: &Caller,
        session: &str,
        query: StdinQuery,
        bytes: Bytes,
    ) -> Result<StdinView, Problem> {
        self.write_input(caller, session, query, bytes).await
    }

    async fn exec(
        &self,
        caller: &Caller,
        session: &str,
        order: ExecOrder,
        input: ClientMessageStream,
    ) -> Result<ServerMessageStream, Problem> {
        self.check_open()?;
        self.execute(caller, session, order, input).await
    }

    async fn attach(
        &self,
        caller: &Caller,
        session: &str,
        order: AttachOrder,
        input: ClientMessageStream,
    ) -> Result<ServerMessageStream, Problem> {
        self.join_main(caller, session, order, input).await
    }

    async fn files(
        &self,
        caller: &Caller,
        session: &str,
        query: FilesQuery,
    ) -> Result<ByteStream, Problem> {
        self.read_files(caller, session, query).await
    }

    async fn event_page(
        &self,
        caller: &Caller,
        query: EventPageQuery,
    ) -> Result<EventPage, Problem> {
        self.page_of_events(caller, query).await
    }

    async fn import_image(
        &self,
        caller: &Caller,
        query: ImportQuery,
        body: ByteStream,
    ) -> Result<ImportedView, Problem> {
        self.check_open()?;
        self.import(caller, query, body).await
    }

    async fn images(&self, caller: &Caller) -> Result<ImageListView, Problem> {
        Ok(self.list_images(caller))
    }

    async fn image(&self, caller: &Caller, image: &str) -> Result<ImageView, Problem> {
        self.show_image(caller, image)
    }

    async fn remove_image(
        &self,
        caller: &Caller,
        image: &str,
    ) -> Result<RemovedImagesView, Problem> {
        self.remove_image_of(caller, image).await
    }

    async fn prune_images(&self, caller: &Caller) -> Result<RemovedImagesView, Problem> {
        self.prune_images_of(caller).await
    }

    async fn events(&self, caller: &Caller, query: EventQuery) -> Result<EventStream, Problem> {
        self.watch_events(caller, query).await
    }

    async fn shutdown(
        &self,
        caller: &Caller,
        order: ShutdownOrder,
    ) -> Result<ShutdownView, Problem> {
        self.shut_down(caller, order).await
    }

    fn standing(&self) -> Result<(), Problem> {
        let shared = &self.manager.shared;
        if let Some(reason) = shared.overtaken().borrow().clone() {
            return Err(Problem::new(ProblemCode::StandingBy, reason));
        }
        if shared.leads() {
            return Ok(());
        }
        let detail = "the site's store has not answered for some seconds, so another manager may \
                      lead by now";
        Err(Problem::new(ProblemCode::Unavailable, detail))
    }

    fn committed(&self) -> u64 {
        self.manager.committed()
    }

    async fn wait_committed(&self, commit: u64) {
        let mut changes = self.manager.shared.changes();
        // An error would mean that the manager is gone, and with it everything to read.
        let _reached = changes.wait_for(|shown| *shown >= commit).await;
    }
}
