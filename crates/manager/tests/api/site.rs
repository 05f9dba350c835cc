//! A site on real sockets, and requests to it byte by byte.

use crate::fake::Fake;
use client::Client;
use manager::api::{Authenticator, router, serve_tcp, serve_unix};
use public_api::{Problem, ProblemCode};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tasks::TaskRunner;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// The key of every test's site.
pub(crate) const KEY: &str = "a-key-for-tests";
/// Longest wait for an answer: a test that waits longer has found something.
const ANSWER_TIME: Duration = Duration::from_secs(20);

/// A site that lives until it is closed or dropped.
pub(crate) struct Site {
    pub(crate) fake: Arc<Fake>,
    pub(crate) address: SocketAddr,
    pub(crate) socket: PathBuf,
    tasks: TaskRunner,
    _directory: tempfile::TempDir,
}

impl Site {
    pub(crate) async fn start() -> Self {
        Self::start_with_key(Some(KEY)).await
    }

    pub(crate) async fn start_with_key(key: Option<&str>) -> Self {
        let fake = Arc::new(Fake::new());
        let directory = tempfile::tempdir().expect("a directory for the socket");
        let socket = directory.path().join("api.sock");
        let uid = rustix::process::getuid().as_raw();
        let authenticator = Authenticator::local(uid, key.map(str::to_owned));
        let service: Arc<dyn public_api::Service> = fake.clone();
        let router = router(service, authenticator);
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = tcp.local_addr().expect("it is bound");
        let unix = UnixListener::bind(&socket).expect("an empty directory");
        let tasks = TaskRunner::new();
        let end = tasks.cancelled();
        tasks.spawn("tcp", serve_tcp(tcp, router.clone(), end.clone()));
        tasks.spawn("unix", serve_unix(unix, router, end));
        Self {
            fake,
            address,
            socket,
            tasks,
            _directory: directory,
        }
    }

    pub(crate) fn unix(&self) -> Client {
        Client::unix(self.socket.clone())
    }

    pub(crate) fn http(&self) -> Client {
        Client::http(format!("http://{}/", self.address), KEY.to_owned())
    }

    /// A connection by the socket, which is queued where no more are accepted.
    pub(crate) async fn connect(&self) -> UnixStream {
        let connected = UnixStream::connect(&self.socket).await;
        connected.expect("it listens")
    }

    /// Ends the listeners and waits for all connections.
    pub(crate) async fn close(&self) {
        self.tasks.close().await;
    }

    /// A request with the key and the right host.
    pub(crate) fn ask(&self, method: &str, target: &str) -> Ask {
        Ask {
            address: self.address,
            line: format!("{method} {target} HTTP/1.1"),
            headers: vec![
                ("host".to_owned(), self.address.to_string()),
                ("authorization".to_owned(), format!("Bearer {KEY}")),
                ("connection".to_owned(), "close".to_owned()),
            ],
            body: None,
        }
    }
}

/// A request in the making.
#[derive(Clone)]
pub(crate) struct Ask {
    address: SocketAddr,
    line: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

/// A WebSocket's close from a client, without a code.
const CLOSE: [u8; 6] = [0x88, 0x80, 0, 0, 0, 0];

impl Ask {
    /// Asks for a WebSocket of our subprotocol where the path is one.
    pub(crate) fn upgraded(mut self) -> Self {
        let line = self.line.clone();
        if ["/exec ", "/attach "].iter().any(|end| line.contains(end)) {
            for (name, value) in [
                ("connection", "upgrade, close"),
                ("upgrade", "websocket"),
                ("sec-websocket-version", "13"),
                ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ("sec-websocket-protocol", "v1.process.insula"),
            ] {
                self = self.header(name, Some(value));
            }
            self = self.header("content-length", None);
            self.body = None;
        }
        self
    }

    /// As a WebSocket it is closed at once.
    pub(crate) fn closing(mut self) -> Self {
        if self.headers.iter().any(|(name, _)| name == "upgrade") {
            self.body = Some(CLOSE.to_vec());
        }
        self
    }

    /// Replaces a header, or leaves it out if there is no value.
    pub(crate) fn header(mut self, name: &str, value: Option<&str>) -> Self {
        self.headers.retain(|(known, _)| known != name);
        if let Some(value) = value {
            self.headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let length = body.len().to_string();
        self.body = Some(body);
        self.header("content-length", Some(&length))
    }

    /// The body in one chunk, so that its length is not told beforehand.
    pub(crate) fn chunked(mut self, body: Vec<u8>) -> Self {
        let head = format!("{:x}\r\n", body.len());
        self.body = Some([head.as_bytes(), &body, b"\r\n0\r\n\r\n"].concat());
        self.header("transfer-encoding", Some("chunked"))
    }

    pub(crate) async fn send(self) -> Answer {
        let line = self.line.clone();
        tokio::time::timeout(ANSWER_TIME, self.exchange())
            .await
            .unwrap_or_else(|_| panic!("{line}: no answer in {ANSWER_TIME:?}"))
    }

    async fn exchange(self) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.expect("it listens");
        let mut head = self.line.clone() + "\r\n";
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        stream.write_all(head.as_bytes()).await.expect("it reads");
        if let Some(body) = &self.body {
            stream.write_all(body).await.expect("it reads the body");
        }
        let mut bytes = Vec::new();
        stream
            .read_to_end(&mut bytes)
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", self.line));
        Answer::parse(&self.line, &bytes)
    }
}

/// An answer as it stood on the wire.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) line: String,
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn parse(line: &str, bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("{line}: closed without an answer"));
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.lines();
        let first = lines.next().expect("a status line");
        let status = first.split(' ').nth(1).and_then(|text| text.parse().ok());
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Self {
            line: line.to_owned(),
            status: status.unwrap_or_else(|| panic!("{line}: {first}")),
            headers,
            body: bytes[end + 4..].to_vec(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The problem it tells; panics if it is not a whole one.
    pub(crate) fn problem(&self) -> Problem {
        let what = format!("{}: {}", self.line, String::from_utf8_lossy(&self.body));
        assert_eq!(
            self.header("content-type"),
            "application/problem+json",
            "{what}"
        );
        let problem: Problem = serde_json::from_slice(&self.body).expect(&what);
        assert_eq!(problem.status, self.status, "{what}");
        assert_eq!(problem.code.status(), self.status, "{what}");
        assert_eq!(
            problem.request_id.as_deref(),
            Some(self.header("x-request-id")),
            "{what}"
        );
        assert!(
            !problem.detail.is_empty() && !problem.hint.is_empty(),
            "{what}"
        );
        problem
    }

    /// Asserts that it is this problem.
    #[track_caller]
    pub(crate) fn expect(&self, code: ProblemCode) -> Problem {
        let problem = self.problem();
        assert_eq!(problem.code, code, "{}: {}", self.line, problem.detail);
        problem
    }
}
