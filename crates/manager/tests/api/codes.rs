//! Every error code reaches a client whole, by both ways.

use crate::authorisation::{good_body, target};
use crate::description::described;
use crate::site::Site;
use client::ClientError;
use public_api::ProblemCode;

#[tokio::test]
async fn every_code_arrives_with_its_status_and_a_hint() {
    let site = Site::start().await;
    for code in ProblemCode::ALL {
        *site.fake.problem.lock().unwrap() = Some(*code);
        for client in [site.unix(), site.http()] {
            let Err(ClientError::Problem(problem)) = client.site().await else {
                panic!("{code:?} did not arrive");
            };
            assert_eq!(problem.code, *code);
            assert!(problem.request_id.is_some() && !problem.hint.is_empty());
        }
        let answer = site.ask("GET", "/api/v1/site").send().await;
        answer.expect(*code);
        let busy = matches!(answer.status, 429 | 503);
        assert_eq!(answer.header("retry-after").is_empty(), !busy, "{code:?}");
    }
    site.close().await;
}

#[tokio::test]
async fn every_route_hands_on_what_the_service_refuses() {
    let site = Site::start().await;
    *site.fake.problem.lock().unwrap() = Some(ProblemCode::WrongState);
    for (method, path) in described() {
        if path.ends_with("/openapi.json") {
            continue;
        }
        let ask = site.ask(&method.to_uppercase(), &target(&path));
        let answer = ask.body(good_body(&method, &path)).upgraded().send().await;
        answer.expect(ProblemCode::WrongState);
    }
    site.close().await;
}
