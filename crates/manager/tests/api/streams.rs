//! Output, files and events, whole and cut.

use crate::site::{Answer, Site};
use client::{BrokenAnswer, ClientError};
use futures::{StreamExt, TryStreamExt};
use public_api::{EventQuery, FilesQuery, LogFrame, LogQuery, OutputStream, ProblemCode};
use std::time::{Duration, Instant};

fn from(offset: u64) -> LogQuery {
    LogQuery {
        offset,
        follow: true,
        ..LogQuery::default()
    }
}

#[tokio::test]
async fn output_arrives_in_frames_up_to_its_end() {
    let site = Site::start().await;
    for client in [site.unix(), site.http()] {
        let frames = client.logs("one", OutputStream::Stderr, &from(100)).await;
        let frames: Vec<_> = frames.expect("logs").try_collect().await.expect("whole");
        let hello = LogFrame::Data {
            offset: 100,
            bytes: "hello".into(),
        };
        let gap = LogFrame::Gap {
            offset: 105,
            bytes: 10,
        };
        assert_eq!(frames, [hello, gap, LogFrame::End { offset: 115 }]);
        assert!(site.fake.last_asked().contains("Stderr"));
    }
    let raw = site
        .ask("GET", "/api/v1/sessions/one/logs/stdout?raw=true")
        .send()
        .await;
    assert_eq!(raw.header("content-type"), "application/octet-stream");
    assert_eq!(chunks(&raw), b"hello");
    site.close().await;
}

#[tokio::test]
async fn output_without_its_end_is_an_error() {
    let site = Site::start().await;
    *site.fake.cut.lock().unwrap() = true;
    for client in [site.unix(), site.http()] {
        let frames = client.logs("one", OutputStream::Stdout, &from(0)).await;
        let mut frames = frames.expect("logs");
        frames.next().await.expect("data").expect("data");
        frames.next().await.expect("gap").expect("gap");
        let last = frames.next().await.expect("an error");
        assert!(matches!(last, Err(ClientError::Broken { .. })), "{last:?}");
        let files = client
            .files("one", &FilesQuery::default())
            .await
            .expect("files");
        let all: Result<Vec<_>, _> = files.try_collect().await;
        let broke = matches!(
            all,
            Err(ClientError::Broken {
                source: BrokenAnswer::Transport(_),
                ..
            })
        );
        assert!(broke, "{all:?}");
    }
    site.close().await;
}

#[tokio::test]
async fn a_silent_follower_gets_signs_of_life() {
    let site = Site::start().await;
    *site.fake.endless.lock().unwrap() = true;
    let frames = site
        .unix()
        .logs("one", OutputStream::Stdout, &from(0))
        .await;
    let third = frames.expect("logs").skip(2).next().await;
    assert!(matches!(third, Some(Ok(LogFrame::Alive))), "{third:?}");
    site.close().await;
}

#[tokio::test]
async fn files_arrive_whole_under_a_name() {
    let site = Site::start().await;
    let query = FilesQuery {
        path: "a b/ü".to_owned(),
        changed: true,
        ..FilesQuery::default()
    };
    let files = site.unix().files("one", &query).await.expect("files");
    let parts: Vec<_> = files.try_collect().await.expect("whole");
    assert_eq!(parts.concat(), b"some tar");
    assert!(site.fake.last_asked().contains("a b/ü"));
    let answer = site.ask("GET", "/api/v1/sessions/one/files").send().await;
    let name = answer.header("content-disposition");
    assert_eq!(name, "attachment; filename=\"one.tar\"");
    site.close().await;
}

#[tokio::test]
async fn events_go_on_after_the_last_one_seen() {
    let site = Site::start().await;
    let query = EventQuery {
        after: Some(40),
        session: None,
        ..EventQuery::default()
    };
    let events = site.http().events(&query).await.expect("events");
    let events: Vec<_> = events.try_collect().await.expect("whole");
    assert_eq!(
        events.iter().map(|event| event.number).collect::<Vec<_>>(),
        [41, 42]
    );
    assert_eq!(events[0].message, "it runs\nwell");
    let ask = site.ask("GET", "/api/v1/events?after=1");
    let answer = ask.clone().header("last-event-id", Some("50")).send().await;
    let text = String::from_utf8(chunks(&answer)).expect("text");
    assert!(text.contains("id: 51\n"), "{text}");
    let wrong = ask.header("last-event-id", Some("x")).send().await;
    wrong.expect(ProblemCode::InvalidRequest);
    *site.fake.cut.lock().unwrap() = true;
    let events = site.unix().events(&query).await.expect("events");
    let last = events.skip(2).next().await;
    let Some(Err(ClientError::Problem(problem))) = last else {
        panic!("{last:?}");
    };
    assert_eq!(problem.code, ProblemCode::Unavailable);
    site.close().await;
}

#[tokio::test]
async fn going_down_cuts_streams_soon() {
    let site = Site::start().await;
    *site.fake.endless.lock().unwrap() = true;
    let frames = site
        .unix()
        .logs("one", OutputStream::Stdout, &from(0))
        .await;
    let mut frames = frames.expect("logs");
    frames.next().await.expect("data").expect("data");
    let started = Instant::now();
    site.close().await;
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "{:?}",
        started.elapsed()
    );
    let rest: Vec<_> = frames.collect().await;
    assert!(
        matches!(rest.last(), Some(Err(ClientError::Broken { .. }))),
        "{rest:?}"
    );
}

/// The body of a chunked answer.
fn chunks(answer: &Answer) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = &answer.body[..];
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = std::str::from_utf8(&rest[..end]).expect("a size");
        let size = usize::from_str_radix(size, 16).expect("a size");
        out.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 2 + size + 2..];
        if size == 0 {
            break;
        }
    }
    out
}
