//! What every request passes: a name, the question who asks, the wait for the commit that the
//! caller has already seen, and one line in the log.

use crate::api::Api;
use crate::api::authenticator::Peer;
use crate::api::problems::{Refusal, finish, invalid_request};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use public_api::{COMMIT_HEADER, Caller, Problem, ProblemCode};
use std::time::{Duration, Instant};
use tracing::Instrument;

/// Longest wait for a commit that the caller has seen elsewhere.
const COMMIT_WAIT: Duration = Duration::from_secs(5);

/// The outermost layer, around routes and around what is no route.
pub(super) async fn edge(State(api): State<Api>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id();
    let method = request.method().clone();
    let route = format!("{method} {}", request.uri().path());
    let span = tracing::info_span!("request", request.id = %id);
    let answer = answer(&api, request, next).instrument(span);
    let (response, user) = answer.await;
    let mut response = finish(response, &route, &id);
    let commit = api.service.committed();
    if commit > 0 && user.is_some() {
        response
            .headers_mut()
            .insert(COMMIT_HEADER, HeaderValue::from(commit));
    }
    log(&Seen {
        route: &route,
        method: &method,
        id: &id,
        user: user.as_deref().unwrap_or("nobody"),
        status: response.status().as_u16(),
        elapsed: started.elapsed(),
    });
    response
}

async fn answer(api: &Api, mut request: Request, next: Next) -> (Response, Option<String>) {
    let caller = match admit(api, &request) {
        Ok(caller) => caller,
        Err(refusal) => return (refusal.into_response(), None),
    };
    let user = Some(caller.user.clone());
    if let Err(problem) = api.service.standing() {
        return (Refusal::from(problem).into_response(), user);
    }
    if let Err(refusal) = catch_up(api, request.headers()).await {
        return (refusal.into_response(), user);
    }
    request.extensions_mut().insert(caller);
    (next.run(request).await, user)
}

fn admit(api: &Api, request: &Request) -> Result<Caller, Refusal> {
    let peer = request.extensions().get::<Peer>();
    api.authenticator
        .authenticate(peer, request.uri(), request.headers())
}

/// Waits until reads show the commit that the caller has already seen.
async fn catch_up(api: &Api, headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(header) = headers.get(COMMIT_HEADER) else {
        return Ok(());
    };
    let commit = header.to_str().ok().and_then(|text| text.parse().ok());
    let Some(commit) = commit else {
        let detail = format!("the header `{COMMIT_HEADER}` is not a whole number");
        return Err(invalid_request(detail));
    };
    if api.service.committed() >= commit {
        return Ok(());
    }
    let wait = api.service.wait_committed(commit);
    if tokio::time::timeout(COMMIT_WAIT, wait).await.is_ok() {
        return Ok(());
    }
    let detail = format!(
        "the request asks for commit {commit}, and the site shows {}",
        api.service.committed()
    );
    Err(Problem::new(ProblemCode::Unavailable, detail).into())
}

/// 64 random bits: unique enough to find a line in a log.
pub(super) fn request_id() -> String {
    let number = getrandom::u64().expect("the kernel's random source always answers");
    format!("{number:016x}")
}

struct Seen<'a> {
    route: &'a str,
    method: &'a Method,
    id: &'a str,
    user: &'a str,
    status: u16,
    elapsed: Duration,
}

/// One sentence per request; reads that went well only for those who debug. The query is left
/// out: it can have names of other people's things in it.
fn log(seen: &Seen<'_>) {
    let Seen {
        route,
        method,
        id,
        user,
        status,
        elapsed,
    } = seen;
    let is_read = *method == Method::GET || *method == Method::HEAD;
    if *status >= 500 {
        tracing::warn!(request.id = %id, "{route} by {user} was answered with {status} after {elapsed:?}");
    } else if is_read {
        tracing::debug!(request.id = %id, "{route} by {user} was answered with {status} after {elapsed:?}");
    } else {
        tracing::info!(request.id = %id, "{route} by {user} was answered with {status} after {elapsed:?}");
    }
}
