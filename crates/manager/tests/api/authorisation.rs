//! Nobody gets anywhere without saying who they are, on any route there is.

use crate::description::described;
use crate::fake::Fake;
use crate::site::{KEY, Site};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use manager::api::{Authenticator, Peer, router};
use public_api::{ProblemCode, Service};
use std::sync::Arc;
use tower::ServiceExt;

/// A described path with a name for each of its parts.
pub(crate) fn named(path: &str) -> String {
    let path = path
        .replace("{session}", "one")
        .replace("{array}", "one")
        .replace("{member}", "one")
        .replace("{image}", "one")
        .replace("{node}", "one")
        .replace("{stream}", "stdout");
    assert!(
        !path.contains('{'),
        "{path} has a part that the tests do not know"
    );
    path
}

/// A target for a described path, with the query it cannot do without.
pub(crate) fn target(path: &str) -> String {
    let path = named(path);
    if path.ends_with("/stdin") {
        path + "?offset=0"
    } else {
        path
    }
}

/// A body that is right for a described operation.
pub(crate) fn good_body(method: &str, path: &str) -> &'static str {
    match (method, path) {
        ("post", "/api/v1/sessions") => r#"{"command":["true"]}"#,
        ("post", "/api/v1/arrays") => r#"{"session":{"command":["true"]},"indices":"1-3"}"#,
        ("post", "/api/v1/shutdown") => r#"{"mode":"refuse"}"#,
        ("patch", _) => r#"{"name":"other"}"#,
        ("post", path) if path.ends_with("/priority") => r#"{"priority":60}"#,
        ("post", path) if path.ends_with("/signal") => r#"{"signal":2}"#,
        _ => "",
    }
}

#[tokio::test]
async fn every_route_refuses_whoever_has_no_key() {
    let site = Site::start().await;
    for (method, path) in described() {
        let method_upper = method.to_uppercase();
        let ask = site
            .ask(&method_upper, &target(&path))
            .body(good_body(&method, &path));
        for credentials in [
            None,
            Some("Bearer "),
            Some("Bearer a-key-for-test"),
            Some("Bearer a-key-for-testS"),
            Some("Basic a-key-for-tests"),
            Some(KEY),
        ] {
            let answer = ask
                .clone()
                .header("authorization", credentials)
                .send()
                .await;
            answer.expect(ProblemCode::Unauthenticated);
            assert_eq!(answer.header("www-authenticate"), "Bearer");
            assert_eq!(
                answer.header("insula-commit"),
                "",
                "strangers learn nothing"
            );
        }
        assert_eq!(
            site.fake.last_asked(),
            "",
            "{method} {path} reached the service"
        );
    }
    for (method, path) in described() {
        let method_upper = method.to_uppercase();
        let ask = site.ask(&method_upper, &target(&path));
        let answer = ask
            .body(good_body(&method, &path))
            .upgraded()
            .closing()
            .send()
            .await;
        assert!(
            answer.status < 300,
            "the control: {method} {path} with the key: {answer:?}"
        );
    }
    site.close().await;
}

#[tokio::test]
async fn without_a_key_of_its_own_the_site_lets_nobody_in_by_tcp() {
    for key in [None, Some("")] {
        let site = Site::start_with_key(key).await;
        for credentials in ["Bearer ", "Bearer", "Bearer a-key-for-tests"] {
            let ask = site.ask("GET", "/api/v1/site");
            let answer = ask.header("authorization", Some(credentials)).send().await;
            answer.expect(ProblemCode::Unauthenticated);
        }
        site.close().await;
    }
}

#[tokio::test]
async fn strangers_do_not_learn_which_routes_there_are() {
    let site = Site::start().await;
    for target in ["/", "/api/v1/nothing", "/api/v2/site", "/api/v1/site/"] {
        let ask = site.ask("GET", target);
        let stranger = ask.clone().header("authorization", None).send().await;
        stranger.expect(ProblemCode::Unauthenticated);
        ask.send().await.expect(ProblemCode::NoSuchRoute);
    }
    site.close().await;
}

#[tokio::test]
async fn a_request_for_another_host_is_refused_on_loopback() {
    let site = Site::start().await;
    let port = site.address.port();
    let ask = site.ask("GET", "/api/v1/site");
    for host in [
        "evil.example",
        "evil.example:80",
        "127.0.0.1",
        "127.0.0.1:1",
        "localhost.x",
    ] {
        let answer = ask.clone().header("host", Some(host)).send().await;
        answer.expect(ProblemCode::Forbidden);
    }
    let absolute = site
        .ask("GET", "http://evil.example/api/v1/site")
        .send()
        .await;
    absolute.expect(ProblemCode::Forbidden);
    let none = ask.clone().header("host", None).send().await;
    none.expect(ProblemCode::InvalidRequest);
    for host in [format!("localhost:{port}"), format!("[::1]:{port}")] {
        let answer = ask.clone().header("host", Some(&host)).send().await;
        assert_eq!(answer.status, 200, "the control: {host}");
    }
    site.close().await;
}

#[tokio::test]
async fn no_other_origin_is_told_that_it_may_ask() {
    let site = Site::start().await;
    let ask = site.ask("GET", "/api/v1/site");
    let answer = ask
        .header("origin", Some("http://evil.example"))
        .send()
        .await;
    assert_eq!(answer.header("access-control-allow-origin"), "");
    let preflight = site.ask("OPTIONS", "/api/v1/site");
    let preflight = preflight.header("authorization", None).send().await;
    preflight.expect(ProblemCode::Unauthenticated);
    site.close().await;
}

#[tokio::test]
async fn the_socket_tells_who_asks_and_the_key_does_not() {
    let site = Site::start().await;
    let uid = rustix::process::getuid().as_raw();
    site.unix().site().await.expect("the owner may ask");
    let by_socket = site.fake.caller.lock().unwrap().clone().expect("asked");
    assert_eq!((by_socket.uid, by_socket.operator), (Some(uid), true));
    site.http().site().await.expect("the key opens");
    let by_key = site.fake.caller.lock().unwrap().clone().expect("asked");
    assert_eq!((by_key.uid, by_key.operator), (None, true));
    assert_eq!(by_key.user, by_socket.user, "both see the same sessions");
    site.close().await;
}

#[tokio::test]
async fn only_the_owner_and_root_may_use_the_socket() {
    const OWNER: u32 = 4_000_000_001;
    const OTHER: u32 = 4_000_000_002;
    let fake = Arc::new(Fake::new());
    let service: Arc<dyn Service> = fake.clone();
    let router = router(service, Authenticator::local(OWNER, Some(KEY.to_owned())));
    for (peer, expected) in [
        (Some(Peer::Unix { uid: OWNER }), StatusCode::OK),
        (Some(Peer::Unix { uid: 0 }), StatusCode::OK),
        (Some(Peer::Unix { uid: OTHER }), StatusCode::FORBIDDEN),
        (None, StatusCode::UNAUTHORIZED),
    ] {
        // The key does not help another user: whoever can connect to the socket is known by uid.
        let mut request = Request::get("/api/v1/site")
            .header("authorization", format!("Bearer {KEY}"))
            .body(Body::empty())
            .expect("a request");
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        let answer = router.clone().oneshot(request).await.expect("it answers");
        assert_eq!(answer.status(), expected, "{peer:?}");
    }
    let caller = fake
        .caller
        .lock()
        .unwrap()
        .clone()
        .expect("root asked last");
    assert_eq!((caller.user.as_str(), caller.uid), ("root", Some(0)));
}
