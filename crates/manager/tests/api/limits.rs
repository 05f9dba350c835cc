//! Everything that comes in has a limit.

use crate::site::Site;
use bytes::Bytes;
use client::ClientError;
use futures::stream;
use manager::api::CONNECTION_LIMIT;
use public_api::{CreateSession, ProblemCode, STDIN_LIMIT_BYTES, StdinQuery};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

#[tokio::test]
async fn bodies_beyond_the_limit_are_refused_with_an_answer() {
    let site = Site::start().await;
    for client in [site.unix(), site.http()] {
        let order = |bytes: usize| CreateSession {
            command: vec!["x".repeat(bytes)],
            ..CreateSession::default()
        };
        let refused = client.create(&order(1 << 20), None).await;
        expect_code(&refused, ProblemCode::TooLarge);
        let control = client.create(&order((1 << 20) - 1000), None).await;
        control.expect("within the limit");
        let query = StdinQuery::default();
        let bytes = Bytes::from(vec![0; STDIN_LIMIT_BYTES + 1]);
        let refused = client.stdin("one", &query, bytes.clone()).await;
        expect_code(&refused, ProblemCode::TooLarge);
        let control = client.stdin("one", &query, bytes.slice(1..)).await;
        control.expect("at the limit");
    }
    let unannounced = site
        .ask("POST", "/api/v1/sessions")
        .chunked(vec![b'x'; (1 << 20) + 1]);
    unannounced.send().await.expect(ProblemCode::TooLarge);
    site.close().await;
}

#[tokio::test]
async fn an_upload_that_says_that_it_is_too_large_never_starts() {
    let site = Site::start().await;
    let length = (public_api::UPLOAD_LIMIT_BYTES + 1).to_string();
    let ask = site.ask("POST", "/api/v1/uploads");
    let answer = ask.header("content-length", Some(&length)).send().await;
    answer.expect(ProblemCode::TooLarge);
    assert_eq!(site.fake.last_asked(), "");
    site.close().await;
}

#[tokio::test]
async fn a_refused_upload_gets_its_answer_while_it_is_sent() {
    let site = Site::start().await;
    *site.fake.refuse_uploads.lock().unwrap() = true;
    for client in [site.unix(), site.http()] {
        let parts = stream::iter((0..80).map(|_| Ok(Bytes::from(vec![0; 100_000]))));
        expect_code(&client.upload(parts).await, ProblemCode::DiskFull);
    }
    site.close().await;
}

/// More than sockets hold, of which nobody wants to read the end: the answer is there all the same
/// once it is sent.
#[tokio::test]
async fn whoever_reads_nothing_before_all_is_sent_gets_the_answer_too() {
    const BYTES: usize = 64 << 20;
    let site = Site::start().await;
    *site.fake.refuse_uploads.lock().unwrap() = true;
    // They would send more on the same connection.
    let ask = |method, target| site.ask(method, target).header("connection", None);
    let upload = ask("POST", "/api/v1/uploads");
    let order = ask("POST", "/api/v1/sessions");
    for (ask, code) in [
        (upload.clone(), ProblemCode::DiskFull),
        (order, ProblemCode::TooLarge),
        (
            upload.clone().header("authorization", None),
            ProblemCode::Unauthenticated,
        ),
        // It may have wanted to become something else.
        (
            upload
                .header("connection", Some("upgrade"))
                .header("upgrade", Some("h2c")),
            ProblemCode::DiskFull,
        ),
    ] {
        let all = vec![b'x'; BYTES];
        let told = ask.clone().body(all.clone()).send().await;
        told.expect(code);
        assert_eq!(told.header("connection"), "close");
        ask.chunked(all).send().await.expect(code);
    }
    let ignored = ask("GET", "/api/v1/site").body(vec![b'x'; BYTES]);
    let told = ignored.send().await;
    assert_eq!((told.status, told.header("connection")), (200, "close"));
    site.close().await;
}

#[tokio::test]
async fn whoever_sends_for_ever_after_the_answer_is_cut_off() {
    let site = Site::start().await;
    let mut endless = refused(&site).await;
    let sending = async {
        let mut sent = 0;
        while endless.write_all(&[0; 1000]).await.is_ok() {
            sent += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        sent
    };
    let cut = tokio::time::timeout(Duration::from_secs(40), sending).await;
    let sent = cut.expect("it is cut off");
    assert!(sent > 50, "it is not cut off at once: {sent}");
    site.close().await;
}

#[tokio::test]
async fn going_down_waits_for_nobody_who_was_answered() {
    let site = Site::start().await;
    let _silent = refused(&site).await;
    let closing = tokio::time::timeout(Duration::from_secs(5), site.close());
    closing
        .await
        .expect("it is not waited for as long as usual");
}

/// A connection whose upload was refused before any of it was sent.
async fn refused(site: &Site) -> UnixStream {
    let refuses = &site.fake.refuse_uploads;
    *refuses.lock().expect("no test panics with it") = true;
    let mut stream = site.connect().await;
    let length = public_api::UPLOAD_LIMIT_BYTES;
    let head =
        format!("POST /api/v1/uploads HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("it reads");
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.expect("it is refused");
    assert_eq!(&first, b"HTTP/1.1 507");
    stream
}

#[tokio::test]
async fn further_connections_wait_until_one_has_ended() {
    use_all_descriptors();
    let site = Site::start().await;
    let mut held = Vec::new();
    for _ in 0..CONNECTION_LIMIT {
        held.push(site.connect().await);
    }
    let mut late = site.connect().await;
    let request = b"GET /api/v1/site HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    late.write_all(request).await.expect("it is queued");
    let mut first = [0; 12];
    let early = tokio::time::timeout(Duration::from_millis(300), late.read_exact(&mut first)).await;
    assert!(
        early.is_err(),
        "more than {CONNECTION_LIMIT} connections are served"
    );
    held.pop();
    late.read_exact(&mut first)
        .await
        .expect("its turn has come");
    assert_eq!(&first, b"HTTP/1.1 200");
    drop(held);
    site.close().await;
}

#[tokio::test]
async fn whoever_does_not_finish_the_head_of_a_request_is_cut_off() {
    let site = Site::start().await;
    let mut slow = site.connect().await;
    slow.write_all(b"GET /api/v1/site HTTP/1.1\r\nhost")
        .await
        .expect("it is read");
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(20), slow.read_to_end(&mut rest)).await;
    ended.expect("it is cut off").expect("without an error");
    site.close().await;
}

/// Both ends of every connection are in this process, and many systems begin with 1,024.
fn use_all_descriptors() {
    let mut limits = getrlimit(Resource::Nofile);
    limits.current = limits.maximum;
    setrlimit(Resource::Nofile, limits).expect("up to the hard limit one may always go");
}

#[track_caller]
fn expect_code<T: std::fmt::Debug>(result: &Result<T, ClientError>, code: ProblemCode) {
    match result {
        Err(ClientError::Problem(problem)) => assert_eq!(problem.code, code),
        other => panic!("{other:?}"),
    }
}
