//! Reading whole answers, within limits.

use crate::error::{BrokenAnswer, ClientError, broken};
use public_api::Problem;
use reqwest::Response;

/// Largest JSON answer: a full page of sessions with long commands.
const JSON_LIMIT_BYTES: usize = 64 << 20;
/// Largest error.
const PROBLEM_LIMIT_BYTES: usize = 1 << 20;
/// How much of a body that is not understood is shown.
const START_CHARACTERS: usize = 200;

/// The body of a successful answer.
pub(crate) async fn json<T: serde::de::DeserializeOwned>(
    act: &str,
    response: Response,
) -> Result<T, ClientError> {
    let body = whole(act, response, JSON_LIMIT_BYTES).await?;
    serde_json::from_slice(&body).map_err(|error| broken(act, BrokenAnswer::Form(error)))
}

/// The error that an unsuccessful answer tells.
pub(crate) async fn problem(act: &str, response: Response) -> ClientError {
    let status = response.status().as_u16();
    let body = match whole(act, response, PROBLEM_LIMIT_BYTES).await {
        Ok(body) => body,
        Err(error) => return error,
    };
    match serde_json::from_slice::<Problem>(&body) {
        Ok(problem) => ClientError::Problem(problem),
        Err(_) => {
            let text = String::from_utf8_lossy(&body);
            let start = text.chars().take(START_CHARACTERS).collect();
            broken(act, BrokenAnswer::NotAProblem { status, start })
        }
    }
}

async fn whole(
    act: &str,
    mut response: Response,
    limit_bytes: usize,
) -> Result<Vec<u8>, ClientError> {
    let mut body = Vec::new();
    while let Some(part) = response
        .chunk()
        .await
        .map_err(|error| broken(act, BrokenAnswer::Transport(error.without_url())))?
    {
        if body.len() + part.len() > limit_bytes {
            return Err(broken(act, BrokenAnswer::TooLarge { limit_bytes }));
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}
