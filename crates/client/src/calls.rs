//! The requests, one for each act of the service.

use crate::FileStream;
use crate::error::{BrokenAnswer, ClientError, broken};
use crate::events::{self, EventStream};
use crate::logs::{self, LogStream};
use crate::processes::{self, ProcessReader, ProcessWriter};
use crate::transport::{
    Client, REQUEST_TIMEOUT, array_path, image_path, node_path, session_path, unclaimed_path,
};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use public_api::{
    ArrayPage, ArrayQuery, ArrayView, AttachOrder, ChangeSession, CreateArray, CreateSession,
    Created, CreatedArray, DrainNode, ElementPage, ElementQuery, EventPage, EventPageQuery,
    EventQuery, ExecOrder, FilesQuery, Hold, HoldOrder, IDEMPOTENCY_HEADER, ImageListView,
    ImageView, ImportQuery, ImportedView, ListQuery, LogQuery, NodeView, OutputStream,
    PriorityOrder, ProcessControl, RemoveNodeQuery, RemoveQuery, RemovedImagesView, SessionPage,
    SessionView, ShutdownOrder, ShutdownView, SignalOrder, SiteUsageView, SiteView, StdinQuery,
    StdinView, StopSession, ThrottleOrder, UnclaimedView, UploadView, UsageView, Why,
};
use reqwest::{Body, Method};
use std::io;

impl Client {
    /// The site.
    pub async fn site(&self) -> Result<SiteView, ClientError> {
        self.request(Method::GET, "/site").json().await
    }

    /// Its nodes; operators only.
    pub async fn nodes(&self) -> Result<Vec<NodeView>, ClientError> {
        self.request(Method::GET, "/nodes").json().await
    }

    /// One of them, by id or name.
    pub async fn node(&self, node: &str) -> Result<NodeView, ClientError> {
        let path = node_path(node, "")?;
        self.request(Method::GET, &path).json().await
    }

    /// Gives a node nothing new from now on; returns when that is durable.
    pub async fn drain_node(&self, node: &str, order: &DrainNode) -> Result<NodeView, ClientError> {
        let path = node_path(node, "/drain")?;
        self.request(Method::POST, &path)
            .change(|request| request.json(order))
            .json()
            .await
    }

    /// Takes a drained node back; returns when that is durable.
    pub async fn undrain_node(&self, node: &str) -> Result<NodeView, ClientError> {
        let path = node_path(node, "/undrain")?;
        self.request(Method::POST, &path).json().await
    }

    /// Takes a node out of the site. With `lost` its machine is gone for ever.
    pub async fn remove_node(&self, node: &str, lost: bool) -> Result<(), ClientError> {
        let path = node_path(node, "")?;
        self.request(Method::DELETE, &path)
            .change(|request| request.query(&RemoveNodeQuery { lost }))
            .send()
            .await?;
        Ok(())
    }

    /// Members that no session claims; operators only.
    pub async fn unclaimed(&self) -> Result<Vec<UnclaimedView>, ClientError> {
        self.request(Method::GET, "/unclaimed").json().await
    }

    /// Asks for a member that no session claims to be ended; returns once its node is told.
    pub async fn stop_unclaimed(
        &self,
        member: &str,
        order: &StopSession,
    ) -> Result<(), ClientError> {
        let path = unclaimed_path(member, "/stop")?;
        self.request(Method::POST, &path)
            .change(|request| request.json(order))
            .send()
            .await?;
        Ok(())
    }

    /// Asks for a member that no session claims to be removed with all it leaves.
    pub async fn remove_unclaimed(&self, member: &str) -> Result<(), ClientError> {
        let path = unclaimed_path(member, "")?;
        self.request(Method::DELETE, &path).send().await?;
        Ok(())
    }

    /// Stages an archive (tar). Takes as long as the body does.
    pub async fn upload(
        &self,
        body: impl Stream<Item = Result<Bytes, io::Error>> + Send + 'static,
    ) -> Result<UploadView, ClientError> {
        let request = self
            .request(Method::POST, "/uploads")
            .change(|request| request.body(Body::wrap_stream(body)));
        let answer = request.send().await?;
        crate::answer::json(&answer.act, answer.response).await
    }

    /// Imports an image from an archive. Takes as long as the body and the site's checks do.
    pub async fn import_image(
        &self,
        query: &ImportQuery,
        body: impl Stream<Item = Result<Bytes, io::Error>> + Send + 'static,
    ) -> Result<ImportedView, ClientError> {
        let request = self.request(Method::POST, "/images").change(|request| {
            let body = Body::wrap_stream(body);
            request.query(query).body(body)
        });
        let answer = request.send().await?;
        crate::answer::json(&answer.act, answer.response).await
    }

    /// All images.
    pub async fn images(&self) -> Result<ImageListView, ClientError> {
        self.request(Method::GET, "/images").json().await
    }

    /// One image, by name, id or the beginning of one.
    pub async fn image(&self, image: &str) -> Result<ImageView, ClientError> {
        let path = image_path(image)?;
        self.request(Method::GET, &path).json().await
    }

    /// Removes an image, or one of several names of one.
    pub async fn remove_image(&self, image: &str) -> Result<RemovedImagesView, ClientError> {
        let path = image_path(image)?;
        self.request(Method::DELETE, &path).json().await
    }

    /// Removes images without a name.
    pub async fn prune_images(&self) -> Result<RemovedImagesView, ClientError> {
        self.request(Method::POST, "/images/prune").json().await
    }

    /// Makes a session; returns when that is durable. With a key it can be repeated safely.
    pub async fn create(
        &self,
        order: &CreateSession,
        idempotency_key: Option<&str>,
    ) -> Result<Created, ClientError> {
        let mut request = self
            .request(Method::POST, "/sessions")
            .change(|request| request.json(order));
        if let Some(key) = idempotency_key {
            request = request.change(|request| request.header(IDEMPOTENCY_HEADER, key));
        }
        request.json().await
    }

    /// A page of sessions, newest first.
    pub async fn list(&self, query: &ListQuery) -> Result<SessionPage, ClientError> {
        self.request(Method::GET, "/sessions")
            .change(|request| request.query(query))
            .json()
            .await
    }

    /// One session, by id or name.
    pub async fn session(&self, session: &str) -> Result<SessionView, ClientError> {
        let path = session_path(session, "")?;
        self.request(Method::GET, &path).json().await
    }

    /// Asks for a session to end; returns when the intention is durable.
    pub async fn stop(
        &self,
        session: &str,
        order: &StopSession,
    ) -> Result<SessionView, ClientError> {
        let path = session_path(session, "/stop")?;
        self.request(Method::POST, &path)
            .change(|request| request.json(order))
            .json()
            .await
    }

    /// Asks for a session that runs to stand still, or for a paused one to go on; returns when that
    /// is durable.
    pub async fn hold(&self, session: &str, hold: Hold) -> Result<SessionView, ClientError> {
        let path = session_path(session, hold_path(hold))?;
        self.request(Method::POST, &path)
            .change(|request| request.json(&HoldOrder {}))
            .json()
            .await
    }

    /// The same for those elements of an array that run, or are paused.
    pub async fn hold_array(&self, array: &str, hold: Hold) -> Result<ArrayView, ClientError> {
        let path = array_path(array, hold_path(hold))?;
        self.request(Method::POST, &path)
            .change(|request| request.json(&HoldOrder {}))
            .json()
            .await
    }

    /// Gives a session that has not ended another priority; returns when that is durable.
    pub async fn prioritize(
        &self,
        session: &str,
        order: PriorityOrder,
    ) -> Result<SessionView, ClientError> {
        let path = session_path(session, "/priority")?;
        self.request(Method::POST, &path)
            .change(|request| request.json(&order))
            .json()
            .await
    }

    /// The same for an array with all of its elements.
    pub async fn prioritize_array(
        &self,
        array: &str,
        order: PriorityOrder,
    ) -> Result<ArrayView, ClientError> {
        let path = array_path(array, "/priority")?;
        self.request(Method::POST, &path)
            .change(|request| request.json(&order))
            .json()
            .await
    }

    /// Asks for a session to be removed; returns when the intention is durable. With `force` one
    /// that lives is stopped first.
    pub async fn remove(&self, session: &str, force: bool) -> Result<SessionView, ClientError> {
        let path = session_path(session, "")?;
        self.request(Method::DELETE, &path)
            .change(|request| request.query(&RemoveQuery { force }))
            .json()
            .await
    }

    /// Makes an array; returns when that is durable. With a key it can be repeated safely.
    pub async fn create_array(
        &self,
        order: &CreateArray,
        idempotency_key: Option<&str>,
    ) -> Result<CreatedArray, ClientError> {
        let mut request = self
            .request(Method::POST, "/arrays")
            .change(|request| request.json(order));
        if let Some(key) = idempotency_key {
            request = request.change(|request| request.header(IDEMPOTENCY_HEADER, key));
        }
        request.json().await
    }

    /// A page of arrays, newest first.
    pub async fn arrays(&self, query: &ArrayQuery) -> Result<ArrayPage, ClientError> {
        self.request(Method::GET, "/arrays")
            .change(|request| request.query(query))
            .json()
            .await
    }

    /// One array, by id or name.
    pub async fn array(&self, array: &str) -> Result<ArrayView, ClientError> {
        let path = array_path(array, "")?;
        self.request(Method::GET, &path).json().await
    }

    /// A page of the table of an array's elements, by ascending index.
    pub async fn elements(
        &self,
        array: &str,
        query: &ElementQuery,
    ) -> Result<ElementPage, ClientError> {
        let path = array_path(array, "/elements")?;
        self.request(Method::GET, &path)
            .change(|request| request.query(query))
            .json()
            .await
    }

    /// Changes how many elements of an array may live at a time.
    pub async fn throttle_array(
        &self,
        array: &str,
        order: ThrottleOrder,
    ) -> Result<ArrayView, ClientError> {
        let path = array_path(array, "/throttle")?;
        self.request(Method::POST, &path)
            .change(|request| request.json(&order))
            .json()
            .await
    }

    /// Asks for every living element of an array to end; returns when the intention is durable.
    pub async fn stop_array(
        &self,
        array: &str,
        order: &StopSession,
    ) -> Result<ArrayView, ClientError> {
        let path = array_path(array, "/stop")?;
        self.request(Method::POST, &path)
            .change(|request| request.json(order))
            .json()
            .await
    }

    /// Asks for every element of an array to be removed; returns when the intention is durable.
    /// With `force` those that live are stopped first.
    pub async fn remove_array(&self, array: &str, force: bool) -> Result<ArrayView, ClientError> {
        let path = array_path(array, "")?;
        self.request(Method::DELETE, &path)
            .change(|request| request.query(&RemoveQuery { force }))
            .json()
            .await
    }

    /// Gives a session another name; returns when that is durable.
    pub async fn change(
        &self,
        session: &str,
        change: &ChangeSession,
    ) -> Result<SessionView, ClientError> {
        let path = session_path(session, "")?;
        self.request(Method::PATCH, &path)
            .change(|request| request.json(change))
            .json()
            .await
    }

    /// Signals a session's command.
    pub async fn signal(&self, session: &str, order: SignalOrder) -> Result<(), ClientError> {
        let path = session_path(session, "/signal")?;
        self.request(Method::POST, &path)
            .change(|request| request.json(&order).timeout(REQUEST_TIMEOUT))
            .send()
            .await
            .map(drop)
    }

    /// Why a session is where it is.
    pub async fn why(&self, session: &str) -> Result<Why, ClientError> {
        let path = session_path(session, "/why")?;
        self.request(Method::GET, &path).json().await
    }

    /// What a session uses now.
    pub async fn usage(&self, session: &str) -> Result<UsageView, ClientError> {
        let path = session_path(session, "/usage")?;
        self.request(Method::GET, &path).json().await
    }

    /// What every session uses now, and for operators the nodes.
    pub async fn site_usage(&self) -> Result<SiteUsageView, ClientError> {
        self.request(Method::GET, "/usage").json().await
    }

    /// A session's output as frames; `raw` is ignored. The stream ends after
    /// [`public_api::LogFrame::End`]; a body that ends before that is an error, so that the
    /// caller asks again from where it stands.
    pub async fn logs(
        &self,
        session: &str,
        stream: OutputStream,
        query: &LogQuery,
    ) -> Result<LogStream, ClientError> {
        let stream = match stream {
            OutputStream::Stdout => "/logs/stdout",
            OutputStream::Stderr => "/logs/stderr",
        };
        let path = session_path(session, stream)?;
        let query = LogQuery {
            raw: false,
            ..query.clone()
        };
        let answer = self
            .request(Method::GET, &path)
            .change(|request| request.query(&query))
            .send()
            .await?;
        logs::frames(answer)
    }

    /// Writes to a session's standard input; at most [`public_api::STDIN_LIMIT_BYTES`] at once.
    pub async fn stdin(
        &self,
        session: &str,
        query: &StdinQuery,
        bytes: Bytes,
    ) -> Result<StdinView, ClientError> {
        let path = session_path(session, "/stdin")?;
        self.request(Method::PUT, &path)
            .change(|request| request.query(query).body(bytes))
            .json()
            .await
    }

    /// Runs a further command in a session; both sides of the connection to it.
    pub async fn exec(
        &self,
        session: &str,
        order: ExecOrder,
    ) -> Result<(ProcessReader, ProcessWriter), ClientError> {
        let path = session_path(session, "/exec")?;
        processes::join(self, &path, ProcessControl::Exec(order)).await
    }

    /// Joins a session's main command; both sides of the connection to it.
    pub async fn attach(
        &self,
        session: &str,
        order: AttachOrder,
    ) -> Result<(ProcessReader, ProcessWriter), ClientError> {
        let path = session_path(session, "/attach")?;
        processes::join(self, &path, ProcessControl::Attach(order)).await
    }

    /// Files of a session, as a tar archive. A body that breaks off is an error.
    pub async fn files(
        &self,
        session: &str,
        query: &FilesQuery,
    ) -> Result<FileStream, ClientError> {
        let path = session_path(session, "/files")?;
        let answer = self
            .request(Method::GET, &path)
            .change(|request| request.query(query))
            .send()
            .await?;
        let act = answer.act;
        let parts = answer.response.bytes_stream().map(move |part| {
            part.map_err(|error| broken(&act, BrokenAnswer::Transport(error.without_url())))
        });
        Ok(parts.boxed())
    }

    /// A page of what has happened.
    pub async fn event_page(&self, query: &EventPageQuery) -> Result<EventPage, ClientError> {
        self.request(Method::GET, "/events/page")
            .change(|request| request.query(query))
            .json()
            .await
    }

    /// What happened after `query.after` and happens. The stream ends when the site goes down;
    /// ask again after the last number seen.
    pub async fn events(&self, query: &EventQuery) -> Result<EventStream, ClientError> {
        let answer = self
            .request(Method::GET, "/events")
            .change(|request| request.query(query))
            .send()
            .await?;
        events::events(answer)
    }

    /// Takes the site down; operators only.
    pub async fn shutdown(&self, order: ShutdownOrder) -> Result<ShutdownView, ClientError> {
        self.request(Method::POST, "/shutdown")
            .change(|request| request.json(&order))
            .json()
            .await
    }
}

fn hold_path(hold: Hold) -> &'static str {
    match hold {
        Hold::Pause => "/pause",
        Hold::Resume => "/resume",
    }
}
