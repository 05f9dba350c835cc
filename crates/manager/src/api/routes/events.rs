//! What happens, as it happens.

use crate::api::extract::{Context, QueryOf, check_number};
use crate::api::problems::{Refusal, invalid_request};
use crate::api::streams;
use axum::Json;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use public_api::{EventPage, EventPageQuery, EventQuery, SentEvent};

const LAST_EVENT_HEADER: &str = "last-event-id";

/// A page of events
///
/// What has happened, in order. To go on with what happens, ask for the stream after
/// `looked_until`.
#[utoipa::path(
    get,
    path = "/api/v1/events/page",
    tag = "events",
    params(EventPageQuery),
    responses((status = 200, description = "A page.", body = EventPage))
)]
pub(in crate::api) async fn page(
    context: Context,
    QueryOf(query): QueryOf<EventPageQuery>,
) -> Result<Json<EventPage>, Refusal> {
    let Context { service, caller } = context;
    check_number("after", query.after)?;
    Ok(Json(service.event_page(&caller, query).await?))
}

/// Events
///
/// Server-sent events: `id` is the number, `data` a `PublicEvent`. An event named `problem` has a
/// `Problem` as its data and is the last.
#[utoipa::path(
    get,
    path = "/api/v1/events",
    tag = "events",
    params(
        EventQuery,
        ("last-event-id" = Option<u64>, Header, description = "Goes before `after`.")
    ),
    responses((
        status = 200,
        description = "Events as they are committed.",
        body = SentEvent,
        content_type = "text/event-stream"
    ))
)]
pub(in crate::api) async fn events(
    context: Context,
    QueryOf(mut query): QueryOf<EventQuery>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Refusal> {
    let Context { service, caller } = context;
    check_number("after", query.after)?;
    if let Some(value) = headers.get(LAST_EVENT_HEADER) {
        let number = value.to_str().ok().and_then(|text| text.parse().ok());
        let number = number.ok_or_else(|| {
            invalid_request(format!(
                "the header `{LAST_EVENT_HEADER}` is not a whole number"
            ))
        })?;
        query.after = Some(number);
    }
    check_number("after", query.after)?;
    let events = service.events(&caller, query).await?;
    Ok(streams::events(events))
}
