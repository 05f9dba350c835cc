//! Arrays: shown by counts and as a table, and changed as a whole.

mod counts;
mod create;
mod indices;
mod show;

use crate::app::SiteService;
use crate::app::list::{
    DEFAULT_LIMIT, array_cursor_text, check_limit, check_name_filter, parse_place,
};
use crate::app::problems::{array_has_ended, field};
use crate::app::resolve::{history_owner, may_see};
use crate::app::stop::{Living, accepted, checked_order, plain_order};
use crate::leader::Request;
use database::{ArrayHistoryQuery, ElementScope};
use domain::{ARRAY_LIMIT, ArrayId, ArrayRecord, SessionName, SessionRecord};
use public_api::{
    ArrayPage, ArrayQuery, ArrayView, Caller, ElementPage, ElementQuery, PAGE_LIMIT, Problem,
    ProblemCode, StopSession, ThrottleOrder,
};
use std::sync::Arc;

impl SiteService {
    pub(crate) async fn list_arrays(
        &self,
        caller: &Caller,
        query: ArrayQuery,
    ) -> Result<ArrayPage, Problem> {
        let limit = check_limit(query.limit, DEFAULT_LIMIT)?;
        let name = check_name_filter(query.name.as_deref())?;
        let before = query.cursor.as_deref().map(parse_place).transpose()?;
        let before = before.map(|(at, id)| (at, ArrayId(id)));
        let records = self
            .page_of_arrays(caller, query.all, name, before, limit)
            .await?;
        let full = records.len() == usize::try_from(limit).expect("a small limit");
        let last = records.last().filter(|_| full);
        let next_cursor = last.map(|record| array_cursor_text(record));
        let arrays = self.show_arrays(&records).await?;
        Ok(ArrayPage {
            arrays,
            next_cursor,
        })
    }

    /// Arrays, newest first: those that live, or all that are kept.
    pub(crate) async fn page_of_arrays(
        &self,
        caller: &Caller,
        all: bool,
        name: Option<SessionName>,
        before: Option<(domain::Timestamp, ArrayId)>,
        limit: u32,
    ) -> Result<Vec<Arc<ArrayRecord>>, Problem> {
        if all {
            let query = ArrayHistoryQuery {
                owner: history_owner(caller),
                name,
                before,
                limit,
            };
            let records = self.manager.leader.read(move |store| store.arrays(&query));
            return Ok(records.await?.into_iter().map(Arc::new).collect());
        }
        let mut records: Vec<Arc<ArrayRecord>> = self.manager.shared.read(|view| {
            let living = view.arrays().filter(|array| view.is_array_living(array.id));
            living
                .filter(|array| may_see(caller, &array.owner))
                .filter(|array| name.as_ref().is_none_or(|name| array.name == *name))
                .filter(|array| before.is_none_or(|before| (array.created_at, array.id) < before))
                .cloned()
                .collect()
        });
        records.sort_by_key(|array| std::cmp::Reverse((array.created_at, array.id)));
        records.truncate(usize::try_from(limit).expect("a small limit"));
        Ok(records)
    }

    pub(crate) async fn show_array(
        &self,
        caller: &Caller,
        array: &str,
    ) -> Result<ArrayView, Problem> {
        let record = self.resolve_array(caller, array).await?;
        self.show_one_array(&record).await
    }

    pub(crate) async fn list_elements(
        &self,
        caller: &Caller,
        array: &str,
        query: ElementQuery,
    ) -> Result<ElementPage, Problem> {
        let limit = check_limit(query.limit, PAGE_LIMIT)?;
        let record = self.resolve_array(caller, array).await?;
        let after = query.cursor.as_deref().map(parse_index).transpose()?;
        let elements = self
            .elements_of(record.id, ElementScope::After(after), limit)
            .await?;
        let full = elements.len() == usize::try_from(limit).expect("a small limit");
        let last = elements.last().filter(|_| full);
        let next_cursor = last
            .and_then(|element| element.array)
            .map(|(_, index)| index.to_string());
        let elements = self.manager.shared.read(|view| {
            let shown = elements.iter();
            shown
                .map(|element| show::element_view(element, &record, &view.nodes))
                .collect()
        });
        Ok(ElementPage {
            elements,
            next_cursor,
        })
    }

    /// Elements by their index: from the view where it has all of them, else from the store.
    pub(crate) async fn elements_of(
        &self,
        array: ArrayId,
        scope: ElementScope,
        limit: u32,
    ) -> Result<Vec<Arc<SessionRecord>>, Problem> {
        if let ElementScope::After(after) = scope {
            let shown = self.manager.shared.read(|view| {
                let first = after.map_or(Some(0), |after| after.checked_add(1));
                view.has_all_elements(array).then(|| {
                    let elements = first.map(|first| view.elements_from(array, first));
                    let limit = usize::try_from(limit).expect("a small limit");
                    elements
                        .into_iter()
                        .flatten()
                        .take(limit)
                        .cloned()
                        .collect()
                })
            });
            if let Some(shown) = shown {
                return Ok(shown);
            }
        }
        let read = self
            .manager
            .leader
            .read(move |store| store.elements(array, scope, limit));
        Ok(read.await?.into_iter().map(Arc::new).collect())
    }

    pub(crate) async fn change_throttle(
        &self,
        caller: &Caller,
        array: &str,
        order: ThrottleOrder,
    ) -> Result<ArrayView, Problem> {
        check_throttle(order.throttle)?;
        let record = self.resolve_array(caller, array).await?;
        self.check_array_lives(&record)?;
        let request = Request::Throttle(record.id, order.throttle);
        accepted(self.manager.leader.request(request).await?)?;
        self.show_array_now(&record).await
    }

    pub(crate) async fn stop_elements(
        &self,
        caller: &Caller,
        array: &str,
        order: StopSession,
    ) -> Result<ArrayView, Problem> {
        let order = checked_order(caller, &order)?;
        let record = self.resolve_array(caller, array).await?;
        self.check_array_lives(&record)?;
        let request = Request::StopArray(record.id, order);
        accepted(self.manager.leader.request(request).await?)?;
        self.show_array_now(&record).await
    }

    pub(crate) async fn remove_elements(
        &self,
        caller: &Caller,
        array: &str,
        living: Living,
    ) -> Result<ArrayView, Problem> {
        let record = self.resolve_array(caller, array).await?;
        let lives = self
            .manager
            .shared
            .read(|view| view.is_array_living(record.id));
        if lives && living == Living::Refuse {
            let detail = format!("elements of the array {} have not ended", record.name);
            let hint = format!("`insula rm --force {}` stops them first", record.name);
            return Err(Problem::new(ProblemCode::WrongState, detail).hint(hint));
        }
        let before = self.show_one_array(&record).await?;
        let request = Request::RemoveArray(record.id, plain_order(&caller.user));
        accepted(self.manager.leader.request(request).await?)?;
        let now = self.array_record(record.id).await?;
        match now {
            Some(record) => self.show_one_array(&record).await,
            None => Ok(before),
        }
    }

    /// Said here, because the core no longer knows of arrays that ended long ago.
    pub(crate) fn check_array_lives(&self, array: &ArrayRecord) -> Result<(), Problem> {
        let shared = &self.manager.shared;
        if shared.read(|view| view.is_array_living(array.id)) {
            return Ok(());
        }
        Err(array_has_ended(array.name.as_str()))
    }

    /// An array as it is now; as it was if it is gone by now.
    pub(crate) async fn show_array_now(
        &self,
        before: &Arc<ArrayRecord>,
    ) -> Result<ArrayView, Problem> {
        let now = self.array_record(before.id).await?;
        self.show_one_array(now.as_ref().unwrap_or(before)).await
    }
}

pub(crate) fn parse_index(text: &str) -> Result<u32, Problem> {
    let index = text.parse::<u32>();
    index.map_err(|_| field("cursor", "it is not one that a page ended with"))
}

fn check_throttle(throttle: Option<u32>) -> Result<(), Problem> {
    if throttle == Some(0) {
        return Err(field("throttle", "none at a time is too few")
            .hint("ask for at least 1, or leave it away for no limit"));
    }
    let is_more = |throttle: u32| usize::try_from(throttle).is_ok_and(|count| count > ARRAY_LIMIT);
    if throttle.is_some_and(is_more) {
        let detail = format!("no array has more than {ARRAY_LIMIT} elements");
        return Err(field("throttle", detail).hint("leave it away for no limit"));
    }
    Ok(())
}
