//! Answers that no site of ours gives, byte by byte.

use client::{BrokenAnswer, Client, ClientError};
use futures::TryStreamExt;
use public_api::{EventQuery, LogFrame, LogQuery, OutputStream, encode_log_frame};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

/// A client of a server that reads one request and answers with `answer`. The server's thread
/// gives back the request.
fn served(answer: Vec<u8>) -> (Client, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let base = format!("http://{}", listener.local_addr().expect("it is bound"));
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the client comes");
        let mut request = Vec::new();
        let mut part = [0; 1024];
        while !request.windows(4).any(|window| window == b"\r\n\r\n") {
            let count = stream.read(&mut part).expect("the client sends");
            assert!(count > 0, "the client sends a whole head");
            request.extend_from_slice(&part[..count]);
        }
        stream.write_all(&answer).expect("the client reads");
        String::from_utf8(request).expect("a head is text")
    });
    (Client::http(base, "secret".to_owned()), server)
}

fn whole(status: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\
         insula-commit: 9\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn broken(error: ClientError) -> BrokenAnswer {
    match error {
        ClientError::Broken { source, .. } => source,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_error_of_someone_elses_is_shown_in_part() {
    let body = "x".repeat(10_000);
    let (client, server) = served(whole("502 Bad Gateway", "text/html", body.as_bytes()));
    let error = client.site().await.expect_err("it is no site");
    let BrokenAnswer::NotAProblem { status, start } = broken(error) else {
        panic!("it has no problem in it");
    };
    assert_eq!((status, start.len()), (502, 200));
    let request = server.join().expect("it served").to_lowercase();
    assert!(
        request.starts_with("get /api/v1/site http/1.1\r\n"),
        "{request}"
    );
    assert!(
        request.contains("authorization: bearer secret\r\n"),
        "{request}"
    );
}

#[tokio::test]
async fn an_answer_of_another_form_is_told() {
    let (client, server) = served(whole("200 OK", "application/json", b"{\"site\":1}"));
    let error = client.site().await.expect_err("it is no site view");
    assert!(matches!(broken(error), BrokenAnswer::Form(_)));
    assert_eq!(client.commit(), 9, "the commit counts all the same");
    server.join().expect("it served");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let answer =
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
    let (client, server) = served(answer.to_vec());
    let error = client.site().await.expect_err("it is no site");
    assert!(matches!(
        broken(error),
        BrokenAnswer::NotAProblem { status: 302, .. }
    ));
    server.join().expect("it served");
}

#[tokio::test]
async fn output_that_ends_well_but_early_is_an_error() {
    let data = LogFrame::Data {
        offset: 0,
        bytes: "hello".into(),
    };
    let end = encode_log_frame(&LogFrame::End { offset: 5 });
    let data = encode_log_frame(&data);
    let whole_row = [&data[..], &end].concat();
    for (body, complete) in [
        (&whole_row[..], true),
        (&data[..], false),
        (&whole_row[..30], false),
    ] {
        let (client, server) = served(whole("200 OK", "application/vnd.insula.log", body));
        let frames = client
            .logs("one", OutputStream::Stdout, &LogQuery::default())
            .await;
        let frames: Result<Vec<_>, _> = frames.expect("it begins well").try_collect().await;
        match frames {
            Ok(frames) => assert_eq!((frames.len(), complete), (2, true)),
            Err(error) => {
                assert!(matches!(broken(error), BrokenAnswer::EndedEarly) && !complete);
            }
        }
        server.join().expect("it served");
    }
}

#[tokio::test]
async fn streams_of_another_content_type_are_refused() {
    let (client, server) = served(whole("200 OK", "text/html", b"<html>"));
    let error = client
        .events(&EventQuery::default())
        .await
        .err()
        .expect("no events");
    let BrokenAnswer::ContentType { found, .. } = broken(error) else {
        panic!("the content type is wrong");
    };
    assert_eq!(found, "text/html");
    server.join().expect("it served");
}
