//! Bodies that come in: each has a size limit and a time limit.

use crate::api::extract::innermost;
use crate::api::problems::{Refusal, invalid_request};
use axum::Json;
use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use public_api::{ByteStream, Caller, Problem, ProblemCode};
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Largest JSON body, in bytes.
pub(super) const JSON_LIMIT_BYTES: usize = 1 << 20;
/// Largest JSON body of a request that has thousands of parts, in bytes.
const LARGE_JSON_LIMIT_BYTES: usize = 16 << 20;
/// Longest time for a body that is read as a whole.
const BODY_TIME: Duration = Duration::from_secs(60);
/// Longest wait for the next part of an upload.
const PART_TIME: Duration = Duration::from_secs(60);
/// The same of an archive that somebody on this machine sends: what makes it may take its time, and
/// when it dies the connection ends. So many imports are open at a time.
const LOCAL_PART_TIME: Duration = Duration::from_secs(60 * 60);

/// A JSON object of type `T`; an empty body means `{}`. The error names the place.
pub(super) async fn json<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
) -> Result<T, Refusal> {
    parse(headers, &whole(headers, body, JSON_LIMIT_BYTES).await?)
}

/// The same for a request that may be larger: an array with a command for each element.
pub(super) async fn large_json<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
) -> Result<T, Refusal> {
    parse(
        headers,
        &whole(headers, body, LARGE_JSON_LIMIT_BYTES).await?,
    )
}

fn parse<T: DeserializeOwned>(headers: &HeaderMap, body: &Bytes) -> Result<T, Refusal> {
    if let Some(kind) = headers.get(header::CONTENT_TYPE) {
        let kind = kind.to_str().unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim();
        if !body.is_empty() && !essence.eq_ignore_ascii_case("application/json") {
            return Err(invalid_request(format!(
                "the body has the content type `{kind}`, and should have `application/json`"
            )));
        }
    }
    let text = body.trim_ascii_start();
    if !body.is_empty() && !text.starts_with(b"{") {
        return Err(invalid_request("the body is not a JSON object"));
    }
    let text = if body.is_empty() { b"{}" } else { text };
    match Json::from_bytes(text) {
        Ok(Json(value)) => Ok(value),
        Err(rejection) => Err(invalid_request(format!(
            "the body is not as expected: {}",
            innermost(&rejection)
        ))),
    }
}

/// The whole body, at most `limit_bytes`.
pub(super) async fn whole(
    headers: &HeaderMap,
    body: Body,
    limit_bytes: usize,
) -> Result<Bytes, Refusal> {
    let mut parts = body.into_data_stream();
    let limit = limit_bytes as u64;
    let read = async {
        let mut out = BytesMut::new();
        if announced(headers).is_some_and(|length| length > limit) {
            return Err(too_large(limit));
        }
        while let Some(part) = parts.next().await {
            let part = part.map_err(|_| invalid_request("the body broke off"))?;
            if out.len() + part.len() > limit_bytes {
                return Err(too_large(limit));
            }
            out.extend_from_slice(&part);
        }
        Ok(out.freeze())
    };
    tokio::time::timeout(BODY_TIME, read)
        .await
        .unwrap_or_else(|_| Err(invalid_request("the body did not come within 60 seconds")))
}

/// An upload on its way in.
pub(super) struct Upload {
    parts: BodyDataStream,
    limit_bytes: u64,
    part_time: Duration,
}

impl Upload {
    /// The body of a request, of at most `limit_bytes`.
    pub(super) fn new(body: Body, limit_bytes: u64) -> Self {
        Self {
            limit_bytes,
            part_time: PART_TIME,
            parts: body.into_data_stream(),
        }
    }

    /// Waits longer for the parts that somebody on this machine sends.
    pub(super) fn sent_by(self, caller: &Caller) -> Self {
        let part_time = caller.uid.map_or(self.part_time, |_| LOCAL_PART_TIME);
        Self { part_time, ..self }
    }

    /// Refuses one that says beforehand that it is too large.
    pub(super) fn check_announced(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        match announced(headers) {
            Some(length) if length > self.limit_bytes => Err(too_large(self.limit_bytes)),
            _ => Ok(()),
        }
    }

    /// The parts as they come, within the limit.
    pub(super) fn stream(self) -> ByteStream {
        let Self {
            parts,
            limit_bytes,
            part_time,
        } = self;
        let stream: BoxStream<'static, _> =
            stream::try_unfold((parts, 0_u64), move |(mut parts, before)| async move {
                let Some(part) = next_part(&mut parts, part_time).await? else {
                    return Ok(None);
                };
                let total = before + part.len() as u64;
                if total > limit_bytes {
                    return Err(*too_large(limit_bytes).0);
                }
                Ok(Some((part, (parts, total))))
            })
            .boxed();
        stream
    }
}

async fn next_part(
    parts: &mut BodyDataStream,
    part_time: Duration,
) -> Result<Option<Bytes>, Problem> {
    let broken = |detail: &str| Problem::new(ProblemCode::InvalidRequest, detail);
    match tokio::time::timeout(part_time, parts.next()).await {
        Ok(None) => Ok(None),
        Ok(Some(Ok(part))) => Ok(Some(part)),
        Ok(Some(Err(_))) => Err(broken("the upload broke off")),
        Err(_) => {
            let seconds = part_time.as_secs();
            let detail = format!("nothing of the upload came for {seconds} seconds");
            Err(broken(&detail))
        }
    }
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

fn too_large(limit_bytes: u64) -> Refusal {
    let detail = format!("the body is larger than {limit_bytes} bytes");
    Problem::new(ProblemCode::TooLarge, detail).into()
}
