//! Taking the site down.

use crate::app::SiteService;
use crate::app::stop::plain_order;
use crate::manager::Closing;
use domain::SessionId;
use public_api::{Caller, Problem, ProblemCode, ShutdownMode, ShutdownOrder, ShutdownView};
use std::time::Duration;

/// Longest wait for sessions that were told to stop; those that live on then are left, and go on
/// stopping.
const STOP_WAIT: Duration = Duration::from_secs(30);

impl SiteService {
    pub(crate) async fn shut_down(
        &self,
        caller: &Caller,
        order: ShutdownOrder,
    ) -> Result<ShutdownView, Problem> {
        if !caller.operator {
            let detail = "only operators take a site down";
            return Err(Problem::new(ProblemCode::Forbidden, detail));
        }
        // From here on nothing new is taken, so that what is counted stays counted. Whoever asked
        // may go away before the order is given, which drops this: then the site stays up.
        let closing = Closing::begin(&self.manager);
        match order.mode {
            ShutdownMode::Refuse => self.check_idle()?,
            ShutdownMode::Stop => self.stop_all(caller).await?,
            ShutdownMode::Leave => {}
        }
        let living = self.living_count();
        self.manager.ordered.send_replace(Some(order.mode));
        closing.keep();
        Ok(ShutdownView {
            pid: std::process::id(),
            living_sessions: living,
        })
    }

    fn living_count(&self) -> u64 {
        self.manager.shared.read(|view| view.living() as u64)
    }

    fn check_idle(&self) -> Result<(), Problem> {
        match self.living_count() {
            0 => Ok(()),
            1 => Err(Problem::new(
                ProblemCode::SessionsLive,
                "one session has not ended",
            )),
            living => {
                let detail = format!("{living} sessions have not ended");
                Err(Problem::new(ProblemCode::SessionsLive, detail))
            }
        }
    }

    async fn stop_all(&self, caller: &Caller) -> Result<(), Problem> {
        let living: Vec<SessionId> = self.manager.shared.read(|view| {
            let living = view
                .sessions
                .values()
                .filter(|record| record.state.is_living());
            living.map(|record| record.id).collect()
        });
        for session in living {
            match self.order_stop(session, plain_order(&caller.user)).await {
                Ok(()) => {}
                // It ended in the meantime.
                Err(problem) if is_over(problem.code) => {}
                Err(problem) => return Err(problem),
            }
        }
        let shared = &self.manager.shared;
        shared
            .wait_for(STOP_WAIT, |view| (view.living() == 0).then_some(()))
            .await;
        Ok(())
    }
}

fn is_over(code: ProblemCode) -> bool {
    matches!(code, ProblemCode::WrongState | ProblemCode::NoSuchSession)
}
