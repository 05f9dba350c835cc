//! Stopping, removing and signalling sessions.

use crate::app::SiteService;
use crate::app::problems::{field, has_ended, of_node, refused};
use crate::clock;
use crate::leader::Request;
use domain::{MemberState, SessionId, SessionRecord, Span, StopOrder};
use lifecycle::manager::{Answer, Refusal, STOP_GRACE_MS};
use node_api::{NodeError, SignalRequest};
use public_api::{Caller, Problem, ProblemCode, SessionView, SignalOrder, StopSession};
use std::sync::Arc;

/// SIGTERM.
const DEFAULT_SIGNAL: i32 = 15;
/// Longest grace.
const GRACE_LIMIT_MS: u64 = 86_400_000;

/// What to do with a session that lives and is to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Living {
    /// Refuse.
    Refuse,
    /// Stop it first.
    Stop,
}

/// An ordinary order.
pub(crate) fn plain_order(by: &str) -> StopOrder {
    StopOrder {
        by: by.to_owned(),
        signal: DEFAULT_SIGNAL,
        grace_ms: STOP_GRACE_MS,
        at: clock::now().wall,
    }
}

/// What a caller orders, with its defaults.
pub(crate) fn checked_order(caller: &Caller, order: &StopSession) -> Result<StopOrder, Problem> {
    let mut checked = plain_order(&caller.user);
    if let Some(signal) = order.signal {
        checked.signal = check_signal(signal)?;
    }
    if let Some(grace) = &order.grace {
        let grace: Span = grace.parse().map_err(|error| field("grace", error))?;
        if grace.0 > GRACE_LIMIT_MS {
            return Err(field("grace", format!("{grace} is longer than a day")));
        }
        checked.grace_ms = grace.0;
    }
    Ok(checked)
}

impl SiteService {
    pub(crate) async fn stop_session(
        &self,
        caller: &Caller,
        session: &str,
        order: StopSession,
    ) -> Result<SessionView, Problem> {
        let checked = checked_order(caller, &order)?;
        let record = self.resolve(caller, session).await?;
        if !record.state.is_living() {
            // Said here, because the core no longer knows of sessions that ended long ago.
            return Err(has_ended(&record.shown_name()));
        }
        self.order_stop(record.id, checked).await?;
        self.show_now(&record).await
    }

    pub(crate) async fn order_stop(
        &self,
        session: SessionId,
        order: StopOrder,
    ) -> Result<(), Problem> {
        let request = Request::Stop(session, order);
        accepted(self.manager.leader.request(request).await?)
    }

    /// Durable before the signal is sent: what that brings about is no failure to be tried again.
    pub(crate) async fn end_retries(&self, session: SessionId) -> Result<(), Problem> {
        let request = Request::EndRetries(session);
        match self.manager.leader.request(request).await? {
            // Then there is nothing to be tried again.
            Answer::Refused {
                refusal: Refusal::HasEnded { .. },
            } => Ok(()),
            answer => accepted(answer),
        }
    }

    pub(crate) async fn remove_session(
        &self,
        caller: &Caller,
        session: &str,
        living: Living,
    ) -> Result<SessionView, Problem> {
        let record = self.resolve(caller, session).await?;
        if record.state.is_living() && living == Living::Refuse {
            let detail = format!("session {} is {}", record.shown_name(), record.state.word());
            let name = record.shown_name();
            let hint = format!("`insula rm --force {name}` stops it first");
            return Err(Problem::new(ProblemCode::WrongState, detail).hint(hint));
        }
        let request = Request::Remove(record.id, plain_order(&caller.user));
        accepted(self.manager.leader.request(request).await?)?;
        self.show_now(&record).await
    }

    /// A session as it is now; as it was if it is gone by now.
    pub(crate) async fn show_now(
        &self,
        before: &Arc<SessionRecord>,
    ) -> Result<SessionView, Problem> {
        let now = self.record(before.id).await?;
        if let Some(record) = now {
            return Ok(self.show(&record));
        }
        let mut view = self.show(before);
        view.removing = true;
        Ok(view)
    }

    pub(crate) async fn signal_session(
        &self,
        caller: &Caller,
        session: &str,
        order: SignalOrder,
    ) -> Result<(), Problem> {
        let signal = check_signal(order.signal)?;
        let record = self.resolve(caller, session).await?;
        let main = record.members.first();
        let Some(main) = main.filter(|main| has_command(&main.state)) else {
            return Err(is_now(&record, record.state.word()));
        };
        let api = self.node_api(main.node)?;
        if order.last_attempt {
            self.end_retries(record.id).await?;
        }
        let request = SignalRequest {
            member: main.id,
            signal,
        };
        api.signal(request).await.map_err(|error| match error {
            // It is being prepared: the node may not have begun.
            NodeError::UnknownMember { .. } if main.state == MemberState::Preparing => {
                is_now(&record, record.state.word())
            }
            // Its command has ended, which the view will tell in a moment.
            NodeError::WrongState { state, .. } => is_now(&record, &state),
            _ => of_node(&error),
        })
    }
}

/// It has no command to which a signal could be sent.
fn is_now(record: &SessionRecord, state: &str) -> Problem {
    let name = record.shown_name();
    let hint = format!("`insula show {name}` tells where it is");
    Problem::new(
        ProblemCode::WrongState,
        format!("session {name} is {state}"),
    )
    .hint(hint)
}

/// Whether a member may have a command that runs. One that is on its node may: its output can be
/// there before the report that it started; the node tells if not.
fn has_command(state: &MemberState) -> bool {
    match state {
        MemberState::Preparing
        | MemberState::Starting
        | MemberState::Running { .. }
        | MemberState::Stopping { .. } => true,
        MemberState::Assigned | MemberState::Exited { .. } | MemberState::Gone => false,
    }
}

fn check_signal(signal: i32) -> Result<i32, Problem> {
    if (1..=64).contains(&signal) {
        return Ok(signal);
    }
    Err(field("signal", format!("{signal} is not between 1 and 64")))
}

pub(crate) fn accepted(answer: Answer) -> Result<(), Problem> {
    match answer {
        Answer::Accepted { .. } | Answer::ArrayAccepted { .. } | Answer::NodeAccepted { .. } => {
            Ok(())
        }
        Answer::Refused { refusal } => Err(refused(&refusal)),
        Answer::Created { .. }
        | Answer::ArrayCreated { .. }
        | Answer::ImageAdded { .. }
        | Answer::ImagesRemoved { .. } => {
            unreachable!("nothing was to be made")
        }
    }
}
