//! What routes take out of a request (who asks, of which session, with which query and order), and
//! the answers that many of them give.

use crate::api::problems::{Refusal, invalid_request};
use crate::api::{Api, bodies};
use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Query, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::{HOST_IMAGE, ImageName};
use public_api::{Caller, OutputStream, PAGE_LIMIT, Problem, ProblemCode, Service};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::error::Error;
use std::sync::Arc;

/// Longest id or name of a session, in bytes, with an array's index.
const REFERENCE_LIMIT_BYTES: usize = 128;
/// Longest idempotency key, in bytes.
const KEY_LIMIT_BYTES: usize = 128;

/// Who asks, and who answers.
pub(super) struct Context {
    pub(super) service: Arc<dyn Service>,
    pub(super) caller: Caller,
}

impl FromRequestParts<Api> for Context {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Refusal> {
        let caller = parts.extensions.get::<Caller>().cloned();
        let caller = caller
            .ok_or_else(|| Problem::new(ProblemCode::Unauthenticated, "nobody is known to ask"))?;
        Ok(Self {
            service: Arc::clone(&api.service),
            caller,
        })
    }
}

/// The session that the path names, by id or name.
pub(super) struct SessionReference(pub(super) String);

impl FromRequestParts<Api> for SessionReference {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Refusal> {
        let named = reference(parts, api, "session", ProblemCode::NoSuchSession);
        named.await.map(Self)
    }
}

/// The array that the path names, by id or name.
pub(super) struct ArrayReference(pub(super) String);

impl FromRequestParts<Api> for ArrayReference {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Refusal> {
        let named = reference(parts, api, "array", ProblemCode::NoSuchArray);
        named.await.map(Self)
    }
}

/// The unclaimed member that the path names, by id.
pub(super) struct MemberReference(pub(super) String);

impl FromRequestParts<Api> for MemberReference {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Refusal> {
        let named = reference(parts, api, "member", ProblemCode::NoSuchMember);
        named.await.map(Self)
    }
}

/// The node that the path names, by id or name.
pub(super) struct NodeReference(pub(super) String);

impl FromRequestParts<Api> for NodeReference {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Refusal> {
        let named = reference(parts, api, "node", ProblemCode::NoSuchNode);
        named.await.map(Self)
    }
}

/// What the part `kind` of the path names. What can be neither an id nor a name is refused here,
/// so that no odd text goes any further.
async fn reference(
    parts: &mut Parts,
    api: &Api,
    kind: &str,
    absent: ProblemCode,
) -> Result<String, Refusal> {
    let named = path_part(parts, api, kind).await?;
    if can_be_reference(&named) {
        return Ok(named);
    }
    let start: String = named.chars().take(REFERENCE_LIMIT_BYTES).collect();
    let detail = format!("no {kind} has the id or name {start:?}");
    Err(Problem::new(absent, detail).into())
}

/// The image that the path names, by name, id or the beginning of one; refused as
/// [`SessionReference`] is.
pub(super) struct ImageReference(pub(super) String);

impl FromRequestParts<Api> for ImageReference {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Refusal> {
        let image = path_part(parts, api, "image").await?;
        let is_known = image == HOST_IMAGE || image.parse::<ImageName>().is_ok();
        if is_known || can_be_image_id(&image) {
            return Ok(Self(image));
        }
        let start: String = image.chars().take(REFERENCE_LIMIT_BYTES).collect();
        let detail = format!("no image has the id or name {start:?}");
        Err(Problem::new(ProblemCode::NoSuchImage, detail).into())
    }
}

/// All of an id or its beginning, with or without its algorithm.
fn can_be_image_id(text: &str) -> bool {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    (1..=64).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn can_be_reference(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    (1..=REFERENCE_LIMIT_BYTES).contains(&text.len())
        && text.as_bytes()[0].is_ascii_alphanumeric()
        && text.bytes().all(allowed)
}

/// The output stream that the path names.
pub(super) struct StreamReference(pub(super) OutputStream);

impl FromRequestParts<Api> for StreamReference {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Refusal> {
        match path_part(parts, api, "stream").await?.as_str() {
            "stdout" => Ok(Self(OutputStream::Stdout)),
            "stderr" => Ok(Self(OutputStream::Stderr)),
            _ => {
                let detail = "a session has the streams `stdout` and `stderr`";
                Err(Problem::new(ProblemCode::NoSuchRoute, detail).into())
            }
        }
    }
}

async fn path_part(parts: &mut Parts, api: &Api, name: &str) -> Result<String, Refusal> {
    let found = RawPathParams::from_request_parts(parts, api)
        .await
        .map_err(|error| invalid_request(format!("the path cannot be read: {error}")))?;
    let part = found.iter().find(|(key, _)| *key == name);
    let (_, part) = part.expect("only routes with this part ask for it");
    Ok(part.to_owned())
}

/// The query; the error names the field.
pub(super) struct QueryOf<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Api> for QueryOf<T> {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Refusal> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(query)) => Ok(Self(query)),
            Err(rejection) => Err(invalid_request(format!(
                "the query is not as expected: {}",
                innermost(&rejection)
            ))),
        }
    }
}

/// The body, a JSON object of at most 1 MiB; an empty one means `{}`. Read after everything else
/// was taken out of the request, so that who may not ask is not waited for.
pub(super) struct JsonOf<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Api> for JsonOf<T> {
    type Rejection = Refusal;
    async fn from_request(request: Request, _: &Api) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        bodies::json(&parts.headers, body).await.map(Self)
    }
}

/// The intention is durable: 202, and how what it is about is now.
pub(super) struct Accepted<T>(pub(super) T);

impl<T: Serialize> IntoResponse for Accepted<T> {
    fn into_response(self) -> Response {
        (StatusCode::ACCEPTED, Json(self.0)).into_response()
    }
}

/// What a request with an idempotency key has made: 201 with where it is, or 200 if the same key
/// had made it before.
pub(super) fn made<T: Serialize>(already: bool, place: &str, made: &T) -> Response {
    let status = if already {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    let location = format!("{}/{place}", public_api::PREFIX);
    (status, [(header::LOCATION, location)], Json(made)).into_response()
}

/// Refuses a page of none or of too many.
pub(super) fn check_limit(limit: Option<u32>) -> Result<(), Refusal> {
    if limit.is_none_or(|limit| (1..=PAGE_LIMIT).contains(&limit)) {
        return Ok(());
    }
    let detail = format!("`limit` is from 1 to {PAGE_LIMIT}");
    Err(Problem::new(ProblemCode::InvalidField, detail).into())
}

/// Refuses a number of a byte or an event that nothing will ever have: the description says
/// `int64`, as do the stores.
pub(super) fn check_number(field: &str, number: Option<u64>) -> Result<(), Refusal> {
    if number.is_none_or(|number| i64::try_from(number).is_ok()) {
        return Ok(());
    }
    let detail = format!("`{field}` is at most {}", i64::MAX);
    Err(Problem::new(ProblemCode::InvalidField, detail).into())
}

/// The text of the error's own cause: the framework's sentence around it says nothing more.
pub(super) fn innermost(error: &dyn Error) -> String {
    error
        .source()
        .map_or_else(|| error.to_string(), ToString::to_string)
}

/// The key that makes a creation happen once.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let name = HeaderName::from_static(public_api::IDEMPOTENCY_HEADER);
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    let key = value.to_str().unwrap_or_default();
    if (1..=KEY_LIMIT_BYTES).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Ok(Some(key.to_owned()));
    }
    Err(invalid_request(format!(
        "an idempotency key is 1 to {KEY_LIMIT_BYTES} visible ASCII characters"
    )))
}
