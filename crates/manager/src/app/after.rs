//! What a session waits for: from names to ids, once, when it is asked for.

use crate::app::SiteService;
use crate::app::problems::{field, no_such_session};
use database::ElementScope;
use domain::{
    ArrayRecord, DEPENDENCY_LIMIT, Dependency, DependencyState, DependencyTarget, Need,
    SessionRecord, SessionState, Timestamp,
};
use public_api::{AfterNeed, AfterOrder, Caller, Problem};

impl SiteService {
    /// The dependencies that a request names. What memory holds is decided by the core; what
    /// ended so long ago that only the store has it, here.
    pub(crate) async fn resolve_after(
        &self,
        caller: &Caller,
        orders: &[AfterOrder],
    ) -> Result<Vec<Dependency>, Problem> {
        if orders.len() > DEPENDENCY_LIMIT {
            let detail = format!("{} are more than {DEPENDENCY_LIMIT}", orders.len());
            return Err(field("after", detail).hint("wait for an array instead"));
        }
        let mut after: Vec<Dependency> = Vec::new();
        for order in orders {
            let dependency = self.resolve_one(caller, order).await?;
            if after.iter().all(|known| known.on != dependency.on) {
                after.push(dependency);
            } else {
                let detail = format!("`{}` is named twice", dependency.name);
                return Err(field("after", detail));
            }
        }
        Ok(after)
    }

    async fn resolve_one(
        &self,
        caller: &Caller,
        order: &AfterOrder,
    ) -> Result<Dependency, Problem> {
        let need = match order.need {
            AfterNeed::Succeeded => Need::Succeeded,
            AfterNeed::Ended => Need::Ended,
        };
        let session = self.find_session(caller, &order.session).await?;
        let array = self.find_array(caller, &order.session).await?;
        // Among what lives a name is unique; after that the newest has it.
        let lives = |record: &SessionRecord| (record.state.is_living(), record.created_at);
        let array_lives = |record: &ArrayRecord| {
            let shared = &self.manager.shared;
            let living = shared.read(|view| view.is_array_living(record.id));
            (living, record.created_at)
        };
        match (session, array) {
            (Some(session), Some(array)) if lives(&session) < array_lives(&array) => {
                self.on_array(&array, need).await
            }
            (Some(session), _) => Ok(self.on_session(&session, need)),
            (None, Some(array)) => self.on_array(&array, need).await,
            (None, None) => {
                let mut problem = no_such_session(&order.session);
                problem.detail = format!("after: {}", problem.detail);
                Err(problem)
            }
        }
    }

    fn on_session(&self, record: &SessionRecord, need: Need) -> Dependency {
        let shared = &self.manager.shared;
        let held = shared.read(|view| view.sessions.contains_key(&record.id));
        let state = if held {
            DependencyState::Waiting
        } else {
            decided(record, need)
        };
        Dependency {
            on: DependencyTarget::Session(record.id),
            name: record.shown_name(),
            need,
            state,
        }
    }

    async fn on_array(&self, record: &ArrayRecord, need: Need) -> Result<Dependency, Problem> {
        let id = record.id;
        let (known, whole) = self
            .manager
            .shared
            .read(|view| (view.array(id).is_some(), view.has_all_elements(id)));
        let mut state = DependencyState::Waiting;
        if !whole {
            // Memory may have dropped the very element that decides.
            let failed = match need {
                Need::Ended => None,
                Need::Succeeded => {
                    let scope = ElementScope::Unsuccessful;
                    self.elements_of(id, scope, 1).await?.into_iter().next()
                }
            };
            state = match failed {
                Some(element) => decided(&element, need),
                None if known => DependencyState::Waiting,
                None => DependencyState::Met {
                    at: record.created_at,
                },
            };
        }
        Ok(Dependency {
            on: DependencyTarget::Array(id),
            name: record.name.to_string(),
            need,
            state,
        })
    }
}

/// What a record decides, if it has ended.
fn decided(record: &SessionRecord, need: Need) -> DependencyState {
    match &record.state {
        SessionState::Ended { outcome } if need.is_met_by(outcome) => DependencyState::Met {
            at: record.ended_at.unwrap_or(Timestamp(0)),
        },
        SessionState::Ended { outcome } => DependencyState::Failed {
            name: record.shown_name(),
            outcome: outcome.word().to_owned(),
        },
        SessionState::Pending
        | SessionState::Placed
        | SessionState::Preparing
        | SessionState::Starting
        | SessionState::Running
        | SessionState::Stopping => DependencyState::Waiting,
    }
}
