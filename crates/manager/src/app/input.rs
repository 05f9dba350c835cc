//! A session's standard input.

use crate::app::SiteService;
use crate::app::problems::{no_such_session, of_node};
use bytes::Bytes;
use domain::{MemberId, MemberState, NodeId, SessionId, SessionRecord, StdinMode};
use node_api::{NodeError, StdinRequest};
use public_api::{Caller, Problem, ProblemCode, STDIN_LIMIT_BYTES, StdinQuery, StdinView};
use std::time::Duration;

/// Longest wait for a session that has not started.
const START_WAIT: Duration = Duration::from_secs(5);

/// Where a session's main command is.
pub(crate) enum Place {
    Running(NodeId, MemberId),
    Ended,
}

impl SiteService {
    pub(crate) async fn write_input(
        &self,
        caller: &Caller,
        session: &str,
        query: StdinQuery,
        bytes: Bytes,
    ) -> Result<StdinView, Problem> {
        if bytes.len() > STDIN_LIMIT_BYTES {
            let detail = format!("{} bytes are more than {STDIN_LIMIT_BYTES}", bytes.len());
            return Err(Problem::new(ProblemCode::TooLarge, detail).hint("send it in pieces"));
        }
        let record = self.resolve(caller, session).await?;
        if record.spec.stdin == StdinMode::Null {
            let detail = format!(
                "session {} was started without standard input",
                record.shown_name()
            );
            return Err(Problem::new(ProblemCode::WrongState, detail));
        }
        if !record.state.is_living() {
            return Ok(closed(query.offset));
        }
        let (node, member) = match self.await_main(record.id).await? {
            Some(Place::Running(node, member)) => (node, member),
            Some(Place::Ended) => return Ok(closed(query.offset)),
            // Nothing has been taken yet.
            None => {
                return Ok(StdinView {
                    offset: 0,
                    closed: false,
                });
            }
        };
        let request = StdinRequest {
            member,
            offset: query.offset,
            bytes: bytes.to_vec(),
            close: query.close,
        };
        match self.node_api(node)?.stdin(request).await {
            Ok(reply) => Ok(StdinView {
                offset: reply.offset,
                closed: reply.closed,
            }),
            // It ended between our look and the call; the view will tell so in a moment.
            Err(NodeError::WrongState { .. }) => Ok(closed(query.offset)),
            Err(error) => Err(of_node(&error)),
        }
    }

    /// Where the main command is, once it runs; `None` if it does not after a few seconds.
    pub(crate) async fn await_main(&self, session: SessionId) -> Result<Option<Place>, Problem> {
        let found = self
            .manager
            .shared
            .wait_for(START_WAIT, |view| match view.sessions.get(&session) {
                None => Some(None),
                Some(record) => place(record).map(Some),
            })
            .await;
        match found {
            None => Ok(None),
            Some(Some(place)) => Ok(Some(place)),
            Some(None) => Err(no_such_session(&session.to_string())),
        }
    }
}

fn closed(offset: u64) -> StdinView {
    StdinView {
        offset,
        closed: true,
    }
}

fn place(record: &SessionRecord) -> Option<Place> {
    if !record.state.is_living() {
        return Some(Place::Ended);
    }
    let main = record.members.first()?;
    match &main.state {
        MemberState::Running { .. } | MemberState::Stopping { .. } => {
            Some(Place::Running(main.node, main.id))
        }
        MemberState::Exited { .. } | MemberState::Gone => Some(Place::Ended),
        MemberState::Assigned | MemberState::Preparing | MemberState::Starting => None,
    }
}
