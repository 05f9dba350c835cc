//! Malformed requests of every kind at every route: always a whole answer, never one that says
//! that the site failed.

use crate::authorisation::{good_body, named};
use crate::description::described;
use crate::site::Site;

/// Texts in place of a part of the path; none is a session or a stream.
const PARTS: &[&str] = &[
    "%2e%2e",
    "%2F",
    "a%2Fb",
    "%00",
    "%ff%fe",
    "%",
    "%zz",
    "%F0%9F%8F%9D",
    "'%20OR%201=1",
    "{x}",
    "%0d%0aX-A:%20b",
    "~",
    "*",
    "a:b",
    "%C3%28",
];
/// Queries that are wrong on every route that has a query.
const QUERIES: &[&str] = &[
    "unknown=1",
    "limit=-1&offset=-1&after=-1&force=2",
    "limit=99999999999999999999&offset=99999999999999999999&after=1e3&force=",
    "all=maybe&follow=maybe&changed=maybe&force=maybe&session=%00&offset=",
    "=",
    "%ff=%ff",
    "offset=1&offset=2&all=true&all=true&after=1&after=2&force=true&force=true&changed=true&changed=true",
    "[]=1&a[b]=c",
];
/// Bodies that are wrong wherever JSON is expected.
const BODIES: &[&[u8]] = &[
    b"{",
    b"[]",
    b"null",
    b"7",
    b"\"x\"",
    b"{\"\":0}",
    b"{\"command\":{},\"mode\":[],\"signal\":{}}",
    b"{\"signal\":1e400,\"mode\":0,\"command\":0}",
    b"{\"signal\":99999999999,\"mode\":\"no\",\"command\":[1]}",
    b"{\"command\":[\"a\"],\"command\":[\"b\"],\"signal\":1,\"signal\":1,\"mode\":\"stop\",\"mode\":\"stop\"}",
    b"\xef\xbb\xbf{}",
    b"{\"command\":[\"\xff\"],\"grace\":\"\xff\"}",
    b"\0\0\0\0",
    b"--boundary\r\ncontent-disposition: form-data; name=\"a\"\r\n\r\n1\r\n--boundary--",
];

fn takes_json(method: &str, path: &str) -> bool {
    let others = ["/uploads", "/images", "/images/prune", "/undrain"];
    matches!(method, "post" | "patch") && !others.iter().any(|end| path.ends_with(end))
}

fn takes_query(method: &str, path: &str) -> bool {
    let ends = [
        "/sessions",
        "/arrays",
        "/elements",
        "/stdin",
        "/files",
        "/events",
        "/page",
        "/logs/{stream}",
    ];
    (method != "post" && ends.iter().any(|end| path.ends_with(end)))
        || (method == "delete" && !path.contains("/images/") && !path.contains("/unclaimed/"))
}

#[tokio::test]
async fn odd_paths_are_answered() {
    let site = Site::start().await;
    let long = "a".repeat(5000);
    for (method, path) in described() {
        let method_upper = method.to_uppercase();
        for part in PARTS.iter().copied().chain([long.as_str()]) {
            for name in [
                "{session}",
                "{array}",
                "{member}",
                "{image}",
                "{node}",
                "{stream}",
            ] {
                // Images have names with these.
                let is_name = name == "{image}" && matches!(part, "a%2Fb" | "a:b");
                if !path.contains(name) || is_name {
                    continue;
                }
                // The odd part comes last: some look like a part that has no name yet.
                let target = named(&path.replace(name, "ODD")).replace("ODD", part);
                let ask = site.ask(&method_upper, &(target + "?offset=0"));
                let answer = ask.body(good_body(&method, &path)).send().await;
                answer.problem();
                assert!(answer.status < 500, "{answer:?}");
            }
        }
        // Behind the list some of these are sessions' names, so that not all are wrong.
        for suffix in ["/", "/x", "//", "/%2e%2e", ";a=b", "%20"] {
            let target = named(&path);
            let ask = site.ask(&method_upper, &(target + suffix));
            let answer = ask.body(good_body(&method, &path)).send().await;
            assert!(answer.status < 500, "{answer:?}");
            let lists = ["/sessions", "/arrays", "/images", "/nodes"];
            let list = lists.iter().any(|end| path.ends_with(end));
            if !(list && suffix == "/x") {
                answer.problem();
            }
        }
    }
    assert!(!site.fake.last_asked().contains('\0'));
    site.close().await;
}

#[tokio::test]
async fn odd_queries_are_answered() {
    let site = Site::start().await;
    for (method, path) in described() {
        let target = named(&path);
        for query in QUERIES {
            let ask = site.ask(&method.to_uppercase(), &format!("{target}?{query}"));
            let answer = ask.body(good_body(&method, &path)).send().await;
            assert!(answer.status < 500, "{answer:?}");
            if takes_query(&method, &path) {
                answer.problem();
            }
        }
    }
    site.close().await;
}

#[tokio::test]
async fn odd_bodies_are_answered() {
    let site = Site::start().await;
    let deep = [b"{\"command\":".to_vec(), vec![b'['; 100_000]].concat();
    for (method, path) in described() {
        let target = named(&path);
        // That of a GET means nothing, and its answer comes all the same.
        for body in BODIES.iter().copied().chain([deep.as_slice()]) {
            let ask = site.ask(&method.to_uppercase(), &format!("{target}?offset=0"));
            let answer = ask.body(body).send().await;
            assert!(answer.status < 500, "{answer:?}");
            if takes_json(&method, &path) {
                answer.problem();
            }
        }
    }
    site.close().await;
}

#[tokio::test]
async fn odd_methods_and_headers_are_answered() {
    let site = Site::start().await;
    for (_, path) in described() {
        let target = named(&path);
        for method in ["PROPFIND", "OPTIONS", "TRACE", "BREW"] {
            let answer = site.ask(method, &target).send().await;
            answer.problem();
            assert_eq!(answer.status, 405, "{answer:?}");
        }
        for (name, value) in [
            ("content-type", "\u{1f3dd}/\u{1f3dd}; charset=utf-16"),
            ("if-none-match", "W/W/W/\"\",,,\""),
            ("insula-commit", "99999999999999999999"),
            ("idempotency-key", "\u{e9}"),
            ("last-event-id", "NaN"),
            ("x-request-id", "chosen"),
            ("accept", "nothing/at-all"),
            ("range", "bytes=5-1"),
        ] {
            let answer = site
                .ask("GET", &target)
                .header(name, Some(value))
                .send()
                .await;
            assert!(answer.status < 500, "{answer:?}");
            assert_eq!(answer.header("x-request-id").len(), 16, "{answer:?}");
            if answer.status >= 400 {
                answer.problem();
            }
        }
    }
    site.close().await;
}
