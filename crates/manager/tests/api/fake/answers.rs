//! Answers of the fake service that take more than a line.

use futures::{StreamExt, stream};
use public_api::{
    ClientMessage, ClientMessageStream, ImageSettingsView, ImageView, NodeView, Problem,
    ProblemCode, ProcessControl, ProcessEnd, ProcessEvent, ResourcesView, ServerMessage,
    ServerMessageStream,
};
use std::sync::Arc;

/// Everything comes back, and an end of the input is the process's; a signal breaks it.
pub(super) fn echo(
    first: ServerMessage,
    input: ClientMessageStream,
    joined: Arc<()>,
) -> ServerMessageStream {
    let echoed = input.map(move |message| {
        let _joined = &joined;
        let event = match message {
            ClientMessage::Input(bytes) => return Ok(ServerMessage::Stdout(bytes)),
            ClientMessage::Control(ProcessControl::Resize(size)) => {
                let text = format!("{}x{}", size.columns, size.rows);
                return Ok(ServerMessage::Stderr(text.into()));
            }
            ClientMessage::Control(ProcessControl::Signal(_)) => {
                return Err(Problem::new(ProblemCode::NodeUnreachable, "gone"));
            }
            ClientMessage::Control(_) => ProcessEnd {
                exit_code: 3,
                cause: "exit_code".to_owned(),
                reason: "it exited with 3".to_owned(),
                with_session: false,
            },
        };
        Ok(ServerMessage::Event(ProcessEvent::Ended(event)))
    });
    stream::iter([Ok(first)]).chain(echoed).boxed()
}

/// An image.
pub(super) fn image(name: &str) -> ImageView {
    ImageView {
        id: "sha256:0".to_owned(),
        names: vec![name.to_owned()],
        built_in: false,
        domain: "local".to_owned(),
        project: "default".to_owned(),
        user: "ada".to_owned(),
        imported_at: None,
        made_at: None,
        architecture: "amd64".to_owned(),
        os: "linux".to_owned(),
        bytes: 1,
        stored_bytes: 1,
        layers: Vec::new(),
        case_twins: 0,
        settings: ImageSettingsView::default(),
        used_by: Vec::new(),
    }
}

/// The only node, on which nothing is.
pub(super) fn node() -> NodeView {
    let nothing = || ResourcesView {
        cpu: "0".to_owned(),
        memory_bytes: 0,
        pids: 0,
        disk_bytes: None,
    };
    NodeView {
        id: "one".to_owned(),
        name: "one".to_owned(),
        pool: "default".to_owned(),
        connected: true,
        offers: nothing(),
        used: nothing(),
        capabilities: Vec::new(),
        unclaimed: Vec::new(),
        drained: None,
        sessions: Vec::new(),
    }
}
