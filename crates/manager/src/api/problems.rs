//! Errors as answers: everything that goes wrong leaves as problem+json with a request id.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use public_api::{Problem, ProblemCode};

/// The content type of every error.
const PROBLEM_CONTENT_TYPE: &str = "application/problem+json";
/// Header that names the request, in answers and in the log.
pub(super) const REQUEST_ID_HEADER: &str = "x-request-id";
/// Seconds after which it is worth to try again what was busy or not ready.
const RETRY_AFTER_SECONDS: &str = "1";

/// A request that is not done, and why. Boxed, since results carry it everywhere.
#[derive(Debug)]
pub(crate) struct Refusal(pub(super) Box<Problem>);

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem))
    }
}

/// A refusal because the request is not of the right form.
pub(super) fn invalid_request(detail: impl Into<String>) -> Refusal {
    Problem::new(ProblemCode::InvalidRequest, detail).into()
}

impl IntoResponse for Refusal {
    /// The problem travels beside an empty body; the edge, which knows the request's id, writes it.
    fn into_response(self) -> Response {
        let mut response = status_of(self.0.code).into_response();
        response.extensions_mut().insert(*self.0);
        response
    }
}

fn status_of(code: ProblemCode) -> StatusCode {
    StatusCode::from_u16(code.status()).expect("every code has a status of HTTP")
}

/// Gives an answer its final form: errors become problem+json, whoever made them; `route` is
/// method and path, for those that axum made.
pub(super) fn finish(mut response: Response, route: &str, request_id: &str) -> Response {
    let problem = response.extensions_mut().remove::<Problem>();
    let status = response.status();
    let problem = match problem {
        Some(problem) => Some(problem),
        None if status.is_client_error() || status.is_server_error() => {
            Some(of_status(status, route))
        }
        None => None,
    };
    if let Some(mut problem) = problem {
        problem.request_id = Some(request_id.into());
        response = as_problem(response, &problem);
    }
    let headers = response.headers_mut();
    let id = HeaderValue::from_str(request_id).expect("a request id is hexadecimal");
    headers.insert(REQUEST_ID_HEADER, id);
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("private, no-cache"));
    response
}

/// An error that a layer of ours has not made.
fn of_status(status: StatusCode, route: &str) -> Problem {
    let code = match status {
        StatusCode::NOT_FOUND => ProblemCode::NoSuchRoute,
        StatusCode::METHOD_NOT_ALLOWED => ProblemCode::MethodNotAllowed,
        StatusCode::PAYLOAD_TOO_LARGE => ProblemCode::TooLarge,
        other if other.is_client_error() => ProblemCode::InvalidRequest,
        _ => ProblemCode::Internal,
    };
    let detail = match code {
        ProblemCode::NoSuchRoute => format!("there is no route {route}"),
        ProblemCode::MethodNotAllowed => format!("{route} is not a thing to do here"),
        _ => format!("{route} was answered with {status}"),
    };
    Problem::new(code, detail)
}

fn as_problem(old: Response, problem: &Problem) -> Response {
    let body = serde_json::to_vec(problem).expect("a problem has only texts and numbers");
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status_of(problem.code);
    let allow = old.headers().get(header::ALLOW).cloned();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(PROBLEM_CONTENT_TYPE),
    );
    if let Some(allow) = allow {
        headers.insert(header::ALLOW, allow);
    }
    match problem.status {
        401 => {
            let challenge = HeaderValue::from_static("Bearer");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        429 | 503 => {
            let seconds = HeaderValue::from_static(RETRY_AFTER_SECONDS);
            headers.insert(header::RETRY_AFTER, seconds);
        }
        _ => {}
    }
    response
}
