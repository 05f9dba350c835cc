//! Another priority for sessions and arrays.

use crate::app::SiteService;
use crate::app::problems::{field, has_ended};
use crate::app::stop::accepted;
use crate::leader::Request;
use domain::Priority;
use lifecycle::manager::{PriorityChange, PriorityTarget};
use public_api::{ArrayView, Caller, PriorityOrder, Problem, SessionView};

impl SiteService {
    pub(crate) async fn prioritize_session(
        &self,
        caller: &Caller,
        session: &str,
        order: PriorityOrder,
    ) -> Result<SessionView, Problem> {
        let priority = check_priority(order.priority)?;
        let record = self.resolve(caller, session).await?;
        if !record.state.is_living() {
            // Said here, because the core no longer knows of sessions that ended long ago.
            return Err(has_ended(&record.shown_name()));
        }
        let target = PriorityTarget::Session(record.id);
        self.give_priority(caller, target, priority).await?;
        self.show_now(&record).await
    }

    pub(crate) async fn prioritize_elements(
        &self,
        caller: &Caller,
        array: &str,
        order: PriorityOrder,
    ) -> Result<ArrayView, Problem> {
        let priority = check_priority(order.priority)?;
        let record = self.resolve_array(caller, array).await?;
        self.check_array_lives(&record)?;
        let target = PriorityTarget::Array(record.id);
        self.give_priority(caller, target, priority).await?;
        self.show_array_now(&record).await
    }

    async fn give_priority(
        &self,
        caller: &Caller,
        target: PriorityTarget,
        priority: Priority,
    ) -> Result<(), Problem> {
        let change = PriorityChange {
            target,
            priority,
            by: caller.user.clone(),
        };
        let request = Request::Prioritize(Box::new(change));
        accepted(self.manager.leader.request(request).await?)
    }
}

pub(crate) fn check_priority(number: u32) -> Result<Priority, Problem> {
    Priority::try_from(number).map_err(|error| {
        let usual = Priority::USUAL;
        let hint = format!("a higher one goes first; without one a session has {usual}");
        field("priority", error).hint(hint)
    })
}
