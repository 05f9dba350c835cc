//! The connection to a site, and what every request has in common.

use crate::answer;
use crate::error::{ClientError, transport_error};
use public_api::{COMMIT_HEADER, PREFIX, Problem, ProblemCode};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for the answer to a request that is not a stream: the site itself waits at most a
/// few seconds for anything.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// A client of one site. Clones share the connection settings and the last commit seen.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    /// Without a slash at the end.
    base: String,
    /// Where that is, for messages.
    address: String,
    key: Option<String>,
    commit: Arc<AtomicU64>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key is a secret: only whether there is one is shown.
        out.debug_struct("Client")
            .field("address", &self.address)
            .field("key", &self.key.is_some())
            .field("commit", &self.commit)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Talks through the site's Unix socket, which knows the caller by the kernel.
    pub fn unix(socket: PathBuf) -> Self {
        let address = socket.display().to_string();
        let http = builder().unix_socket(socket).build();
        Self {
            http: http.expect("a client without TLS and proxies has nothing to load"),
            base: "http://localhost".to_owned(),
            address,
            key: None,
            commit: Arc::default(),
        }
    }

    /// Talks to `base` (`http://127.0.0.1:PORT`) with the site's key.
    pub fn http(base: String, key: String) -> Self {
        let base = base.trim_end_matches('/').to_owned();
        Self {
            http: builder()
                .build()
                .expect("a client without TLS and proxies has nothing to load"),
            address: base.clone(),
            base,
            key: Some(key),
            commit: Arc::default(),
        }
    }

    /// The number of the last commit that an answer showed; 0 before the first.
    pub fn commit(&self) -> u64 {
        self.commit.load(Ordering::Acquire)
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> Request {
        let url = format!("{}{PREFIX}{path}", self.base);
        let mut builder = self.http.request(method.clone(), url);
        if let Some(key) = &self.key {
            builder = builder.bearer_auth(key);
        }
        let commit = self.commit();
        if commit > 0 {
            builder = builder.header(COMMIT_HEADER, commit);
        }
        Request {
            client: self.clone(),
            act: format!("{method} {PREFIX}{path}"),
            builder,
        }
    }

    fn saw(&self, response: &Response) {
        let number = response
            .headers()
            .get(COMMIT_HEADER)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.parse::<u64>().ok());
        if let Some(number) = number {
            self.commit.fetch_max(number, Ordering::AcqRel);
        }
    }
}

/// A connection for each request: the daemon may be killed at any time, and a kept connection
/// would turn that into a broken answer although nobody had been asked.
fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_max_idle_per_host(0)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
}

/// A request on its way.
pub(crate) struct Request {
    client: Client,
    pub(crate) act: String,
    builder: RequestBuilder,
}

impl Request {
    pub(crate) fn change(mut self, change: impl FnOnce(RequestBuilder) -> RequestBuilder) -> Self {
        self.builder = change(self.builder);
        self
    }

    /// Sends it; an answer that is not a success becomes an error.
    pub(crate) async fn send(self) -> Result<Answer, ClientError> {
        let Self {
            client,
            act,
            builder,
        } = self;
        let response = builder
            .send()
            .await
            .map_err(|error| transport_error(&client.address, &act, error))?;
        client.saw(&response);
        let status = response.status();
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Answer { act, response });
        }
        Err(answer::problem(&act, response).await)
    }

    /// Sends it with the time limit of requests that are no streams, and reads the JSON answer.
    pub(crate) async fn json<T: serde::de::DeserializeOwned>(self) -> Result<T, ClientError> {
        let answer = self
            .change(|request| request.timeout(REQUEST_TIMEOUT))
            .send()
            .await?;
        answer::json(&answer.act, answer.response).await
    }
}

/// A successful answer whose body is still to come.
pub(crate) struct Answer {
    pub(crate) act: String,
    pub(crate) response: Response,
}

/// The path of an unclaimed member.
pub(crate) fn unclaimed_path(member: &str, rest: &str) -> Result<String, ClientError> {
    let detail = || format!("no member has the id `{member}`");
    path_of("/unclaimed", member, rest)
        .ok_or_else(|| ClientError::Problem(Problem::new(ProblemCode::NoSuchMember, detail())))
}

/// The path of a node.
pub(crate) fn node_path(node: &str, rest: &str) -> Result<String, ClientError> {
    let detail = || format!("no node has the id or name `{node}`");
    path_of("/nodes", node, rest)
        .ok_or_else(|| ClientError::Problem(Problem::new(ProblemCode::NoSuchNode, detail())))
}

/// A path with a name or an id in it, unless it could mean another route.
fn path_of(collection: &str, name: &str, rest: &str) -> Option<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let first = name.bytes().next();
    let starts_well = first.is_some_and(|byte| byte.is_ascii_alphanumeric());
    (starts_well && name.bytes().all(allowed)).then(|| format!("{collection}/{name}{rest}"))
}

/// The path of a session. A text that can be neither id nor name is answered here, since it might
/// mean another route (`..`).
pub(crate) fn session_path(session: &str, rest: &str) -> Result<String, ClientError> {
    let detail = || format!("no session has the id or name `{session}`");
    path_of("/sessions", session, rest)
        .ok_or_else(|| ClientError::Problem(Problem::new(ProblemCode::NoSuchSession, detail())))
}

/// The path of an image. Its name may have slashes and a tag.
pub(crate) fn image_path(image: &str) -> Result<String, ClientError> {
    let segment = image.replace('/', "%2F");
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:%".contains(&byte);
    let first = image.bytes().next();
    let starts_well = first.is_some_and(|byte| byte.is_ascii_alphanumeric());
    if starts_well && !image.contains('%') && segment.bytes().all(allowed) {
        return Ok(format!("/images/{segment}"));
    }
    let shown: String = image.chars().take(80).collect();
    let detail = format!("there is no image `{}`", shown.escape_debug());
    Err(ClientError::Problem(Problem::new(
        ProblemCode::NoSuchImage,
        detail,
    )))
}

/// The path of an array, which may be named by id or name.
pub(crate) fn array_path(array: &str, rest: &str) -> Result<String, ClientError> {
    let detail = || format!("no array has the id or name `{array}`");
    path_of("/arrays", array, rest)
        .ok_or_else(|| ClientError::Problem(Problem::new(ProblemCode::NoSuchArray, detail())))
}
