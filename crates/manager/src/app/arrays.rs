//! Arrays: what is served of them.

use crate::app::SiteService;
use crate::app::stop::Living;
use public_api::{
    ArrayPage, ArrayQuery, ArrayView, Caller, CreateArray, CreatedArray, ElementPage, ElementQuery,
    Problem, ProblemCode, StopSession, ThrottleOrder,
};

fn not_yet() -> Problem {
    Problem::new(
        ProblemCode::Unavailable,
        "this build does not serve arrays yet",
    )
    .hint("make the sessions one by one, or use a newer build")
}

impl SiteService {
    pub(crate) async fn make_array(
        &self,
        _caller: &Caller,
        _request: CreateArray,
        _key: Option<String>,
    ) -> Result<CreatedArray, Problem> {
        Err(not_yet())
    }

    pub(crate) async fn list_arrays(
        &self,
        _caller: &Caller,
        _query: ArrayQuery,
    ) -> Result<ArrayPage, Problem> {
        Ok(ArrayPage {
            arrays: Vec::new(),
            next_cursor: None,
        })
    }

    pub(crate) async fn show_array(
        &self,
        _caller: &Caller,
        _array: &str,
    ) -> Result<ArrayView, Problem> {
        Err(not_yet())
    }

    pub(crate) async fn list_elements(
        &self,
        _caller: &Caller,
        _array: &str,
        _query: ElementQuery,
    ) -> Result<ElementPage, Problem> {
        Err(not_yet())
    }

    pub(crate) async fn change_throttle(
        &self,
        _caller: &Caller,
        _array: &str,
        _order: ThrottleOrder,
    ) -> Result<ArrayView, Problem> {
        Err(not_yet())
    }

    pub(crate) async fn stop_elements(
        &self,
        _caller: &Caller,
        _array: &str,
        _order: StopSession,
    ) -> Result<ArrayView, Problem> {
        Err(not_yet())
    }

    pub(crate) async fn remove_elements(
        &self,
        _caller: &Caller,
        _array: &str,
        _living: Living,
    ) -> Result<ArrayView, Problem> {
        Err(not_yet())
    }
}
