//! From an id or a name to a session or an array that the caller may see.

use crate::app::SiteService;
use crate::app::problems::{no_such_array, no_such_session};
use database::{ArrayHistoryQuery, ElementScope, HistoryOwner};
use domain::{ArrayId, ArrayRecord, Owner, SessionId, SessionName, SessionRecord};
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

/// Whose rows of the store a caller may see.
pub(crate) fn history_owner(caller: &Caller) -> HistoryOwner {
    if caller.operator {
        HistoryOwner::Everyone
    } else {
        HistoryOwner::Owner(owner_of(caller))
    }
}

/// Whether a caller may know of something that `owner` has. To everybody else it does not exist.
pub(crate) fn may_see(caller: &Caller, owner: &Owner) -> bool {
    caller.operator || *owner == owner_of(caller)
}

impl SiteService {
    /// The session with an id, or of a name: the living one, else the newest that ended. The
    /// caller's own go first; an operator also finds those of others. `ARRAY.INDEX` is an element.
    pub(crate) async fn resolve(
        &self,
        caller: &Caller,
        asked: &str,
    ) -> Result<Arc<SessionRecord>, Problem> {
        if let Some(record) = self.find_session(caller, asked).await? {
            return Ok(record);
        }
        let problem = no_such_session(asked);
        let group = asked.rsplit_once('.').map_or(asked, |(group, _)| group);
        Err(match self.find_array(caller, group).await? {
            Some(array) if group == asked => problem.hint(format!(
                "it is an array: its elements are {asked}.{} to {asked}.{}",
                array.first_index, array.last_index
            )),
            Some(array) => problem.hint(format!(
                "the elements of {group} are {group}.{} to {group}.{}, but for those that were \
                 left out or removed",
                array.first_index, array.last_index
            )),
            None => problem,
        })
    }

    pub(crate) async fn find_session(
        &self,
        caller: &Caller,
        asked: &str,
    ) -> Result<Option<Arc<SessionRecord>>, Problem> {
        let found = if let Some((array, index)) = element_reference(asked) {
            match self.find_array(caller, array).await? {
                Some(array) => self.element(array.id, index).await?,
                None => None,
            }
        } else if let Ok(id) = asked.parse::<SessionId>() {
            self.record(id).await?
        } else if let Ok(name) = asked.parse::<SessionName>() {
            self.named(caller, &name).await?
        } else {
            None
        };
        Ok(found.filter(|record| may_see(caller, &record.owner)))
    }

    /// The array with an id, or of a name: the living one, else the newest that ended.
    pub(crate) async fn resolve_array(
        &self,
        caller: &Caller,
        asked: &str,
    ) -> Result<Arc<ArrayRecord>, Problem> {
        let found = self.find_array(caller, asked).await?;
        found.ok_or_else(|| no_such_array(asked))
    }

    pub(crate) async fn find_array(
        &self,
        caller: &Caller,
        asked: &str,
    ) -> Result<Option<Arc<ArrayRecord>>, Problem> {
        let found = if let Ok(id) = asked.parse::<ArrayId>() {
            self.array_record(id).await?
        } else if let Ok(name) = asked.parse::<SessionName>() {
            self.array_named(caller, &name).await?
        } else {
            None
        };
        Ok(found.filter(|record| may_see(caller, &record.owner)))
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

    /// The array with an id, however old.
    pub(crate) async fn array_record(
        &self,
        id: ArrayId,
    ) -> Result<Option<Arc<ArrayRecord>>, Problem> {
        let shown = self.manager.shared.read(|view| view.array(id).cloned());
        if shown.is_some() {
            return Ok(shown);
        }
        let stored = self.manager.leader.read(move |store| store.array(id));
        Ok(stored.await?.map(Arc::new))
    }

    async fn element(
        &self,
        array: ArrayId,
        index: u32,
    ) -> Result<Option<Arc<SessionRecord>>, Problem> {
        let shared = &self.manager.shared;
        let shown = shared.read(|view| view.element(array, index).cloned());
        if shown.is_some() {
            return Ok(shown);
        }
        let found = self.elements_of(array, ElementScope::One(index), 1).await?;
        Ok(found.into_iter().next())
    }

    async fn array_named(
        &self,
        caller: &Caller,
        name: &SessionName,
    ) -> Result<Option<Arc<ArrayRecord>>, Problem> {
        let owner = owner_of(caller);
        let shared = &self.manager.shared;
        let living = shared.read(|view| view.living_array_named(&owner, name).cloned());
        if living.is_some() {
            return Ok(living);
        }
        let query = ArrayHistoryQuery {
            owner: HistoryOwner::Owner(owner),
            name: Some(name.clone()),
            before: None,
            limit: 1,
        };
        let read = self.manager.leader.read(move |store| store.arrays(&query));
        if let Some(record) = read.await?.into_iter().next() {
            return Ok(Some(Arc::new(record)));
        }
        if caller.operator {
            return shared.read(|view| array_named_by_anyone(view, name));
        }
        Ok(None)
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

/// `ARRAY.INDEX`, if it has that form. An index has no sign and no zero before it, so that an
/// element has one name only.
fn element_reference(asked: &str) -> Option<(&str, u32)> {
    let (array, text) = asked.rsplit_once('.')?;
    let index: u32 = text.parse().ok()?;
    (index.to_string() == text).then_some((array, index))
}

/// For operators: the living session of that name, whoever has it, else the newest ended one in
/// memory.
fn named_by_anyone(view: &View, name: &SessionName) -> Result<Option<Arc<SessionRecord>>, Problem> {
    let all = view.sessions.values();
    let all = all.filter(|record| record.name == *name && record.array.is_none());
    let (mut living, mut ended): (Vec<_>, Vec<_>) =
        all.partition(|record| record.state.is_living());
    if living.len() > 1 {
        return Err(ambiguous(living.len(), "sessions", name));
    }
    ended.sort_by_key(|record| (record.created_at, record.id));
    Ok(living.pop().or_else(|| ended.pop()).cloned())
}

/// The same for arrays.
fn array_named_by_anyone(
    view: &View,
    name: &SessionName,
) -> Result<Option<Arc<ArrayRecord>>, Problem> {
    let all = view.arrays().filter(|array| array.name == *name);
    let (mut living, mut ended): (Vec<_>, Vec<_>) =
        all.partition(|array| view.is_array_living(array.id));
    if living.len() > 1 {
        return Err(ambiguous(living.len(), "arrays", name));
    }
    ended.sort_by_key(|array| (array.created_at, array.id));
    Ok(living.pop().or_else(|| ended.pop()).cloned())
}

fn ambiguous(count: usize, what: &str, name: &SessionName) -> Problem {
    let detail = format!("{count} living {what} have the name `{name}`");
    Problem::new(ProblemCode::AmbiguousName, detail)
}

#[cfg(test)]
mod tests {
    use super::element_reference;

    #[test]
    fn an_element_has_one_name() {
        assert_eq!(element_reference("sweep.7"), Some(("sweep", 7)));
        assert_eq!(element_reference("sweep.0"), Some(("sweep", 0)));
        for text in [
            "sweep",
            "sweep.",
            "sweep.07",
            "sweep.+7",
            "sweep.x",
            "sweep.4294967296",
        ] {
            assert_eq!(element_reference(text), None, "{text}");
        }
    }
}
