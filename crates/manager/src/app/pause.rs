//! Sessions that stand still, and go on.

use crate::app::SiteService;
use crate::app::problems::has_ended;
use crate::app::stop::accepted;
use crate::clock;
use crate::leader::Request;
use domain::{PauseOrder, SessionRecord};
use lifecycle::manager::{Answer, Refusal};
use public_api::{ArrayView, Caller, Hold, Problem, ProblemCode, SessionView};

impl SiteService {
    pub(crate) async fn hold_session(
        &self,
        caller: &Caller,
        session: &str,
        hold: Hold,
    ) -> Result<SessionView, Problem> {
        let record = self.resolve(caller, session).await?;
        if !record.state.is_living() {
            // Said here, because the core no longer knows of sessions that ended long ago.
            return Err(has_ended(&record.shown_name()));
        }
        let request = match hold {
            Hold::Pause => Request::Pause(record.id, order(caller)),
            Hold::Resume => Request::Resume(record.id, caller.user.clone()),
        };
        match self.manager.leader.request(request).await? {
            Answer::Refused {
                refusal: Refusal::NotRunning { state, .. },
            } => return Err(does_not_run(&record, state)),
            answer => accepted(answer)?,
        }
        self.show_now(&record).await
    }

    pub(crate) async fn hold_elements(
        &self,
        caller: &Caller,
        array: &str,
        hold: Hold,
    ) -> Result<ArrayView, Problem> {
        let record = self.resolve_array(caller, array).await?;
        self.check_array_lives(&record)?;
        let request = match hold {
            Hold::Pause => Request::PauseArray(record.id, order(caller)),
            Hold::Resume => Request::ResumeArray(record.id, caller.user.clone()),
        };
        accepted(self.manager.leader.request(request).await?)?;
        self.show_array_now(&record).await
    }
}

/// Only what runs can be paused; told with its name, which the core does not say.
fn does_not_run(record: &SessionRecord, state: &str) -> Problem {
    let name = record.shown_name();
    let hint = match state {
        "stopping" => "it is about to end".to_owned(),
        _ => format!("it can be once it runs; `insula why {name}` tells what it waits for"),
    };
    let detail = format!("session {name} is {state}, so it cannot be paused");
    Problem::new(ProblemCode::WrongState, detail).hint(hint)
}

fn order(caller: &Caller) -> PauseOrder {
    PauseOrder {
        by: caller.user.clone(),
        at: clock::now().wall,
    }
}

/// Nothing begins in a session that stands still.
pub(crate) fn is_paused(record: &SessionRecord) -> Problem {
    let name = record.shown_name();
    Problem::new(ProblemCode::WrongState, format!("session {name} is paused"))
        .hint(format!("`insula resume {name}` lets it go on"))
}
