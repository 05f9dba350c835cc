//! From an id or a name to a session that the caller may see.

use crate::app::SiteService;
use crate::app::problems::no_such_session;
use domain::{Owner, SessionId, SessionName, SessionRecord};
use lifecycle::manager::View;
use public_api::{Caller, Problem, ProblemCode};
use std::sync::Arc;

/// Who the caller's own sessions belong to.
pub(crate) fn owner_of(caller: &Caller) -> Owner {
    Owner {
        domain: caller.domain.clone(),
        project: caller.project.clone(),
        user: caller.user.clone(),
    }
}

/// Whether a caller may know of something that `owner` has. To everybody else it does not exist.
pub(crate) fn may_see(caller: &Caller, owner: &Owner) -> bool {
    caller.operator || *owner == owner_of(caller)
}

impl SiteService {
    /// The session with an id, or of a name: the living one, else the newest that ended. The
    /// caller's own go first; an operator also finds those of others.
    pub(crate) async fn resolve(
        &self,
        caller: &Caller,
        asked: &str,
    ) -> Result<Arc<SessionRecord>, Problem> {
        let found = if let Ok(id) = asked.parse::<SessionId>() {
            self.record(id).await?
        } else if let Ok(name) = asked.parse::<SessionName>() {
            self.named(caller, &name).await?
        } else {
            None
        };
        found
            .filter(|record| may_see(caller, &record.owner))
            .ok_or_else(|| no_such_session(asked))
    }

    /// The session with an id, however old.
    pub(crate) async fn record(
        &self,
        id: SessionId,
    ) -> Result<Option<Arc<SessionRecord>>, Problem> {
        let shown = self
            .manager
            .shared
            .read(|view| view.sessions.get(&id).cloned());
        if shown.is_some() {
            return Ok(shown);
        }
        let stored = self
            .manager
            .leader
            .read(move |store| store.session(id))
            .await?;
        Ok(stored.map(Arc::new))
    }

    async fn named(
        &self,
        caller: &Caller,
        name: &SessionName,
    ) -> Result<Option<Arc<SessionRecord>>, Problem> {
        let owner = owner_of(caller);
        let living = self
            .manager
            .shared
            .read(|view| view.living_named(&owner, name).cloned());
        if living.is_some() {
            return Ok(living);
        }
        let wanted = name.clone();
        let read = move |store: &mut dyn database::Store| store.sessions_named(&owner, &wanted, 1);
        let own = self.manager.leader.read(read).await?;
        if let Some(record) = own.into_iter().next() {
            return Ok(Some(Arc::new(record)));
        }
        if caller.operator {
            return self.manager.shared.read(|view| named_by_anyone(view, name));
        }
        Ok(None)
    }
}

/// For operators: the living session of that name, whoever has it, else the newest ended one in
/// memory.
fn named_by_anyone(view: &View, name: &SessionName) -> Result<Option<Arc<SessionRecord>>, Problem> {
    let all = view.sessions.values().filter(|record| record.name == *name);
    let (mut living, mut ended): (Vec<_>, Vec<_>) =
        all.partition(|record| record.state.is_living());
    if living.len() > 1 {
        let detail = format!("{} living sessions have the name `{name}`", living.len());
        return Err(Problem::new(ProblemCode::AmbiguousName, detail));
    }
    ended.sort_by_key(|record| (record.created_at, record.id));
    Ok(living.pop().or_else(|| ended.pop()).cloned())
}
