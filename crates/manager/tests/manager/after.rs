//! Sessions that wait for others.

use crate::arrays::{ADA, array, element};
use crate::site::{TestSite, command};
use public_api::{AfterNeed, AfterOrder, CreateArray, CreateSession, ProblemCode, StopSession};

fn after(session: &str, need: AfterNeed, words: &[&str]) -> CreateSession {
    CreateSession {
        after: vec![AfterOrder {
            session: session.to_owned(),
            need,
        }],
        ..command(words)
    }
}

#[tokio::test]
async fn a_session_waits_for_others_and_is_cancelled_in_vain() {
    let site = TestSite::new().await;
    let mut first = command(&["stay"]);
    first.name = Some("first".to_owned());
    site.create(first).await;
    site.await_state("first", "running").await;
    let ended = site
        .create(after("first", AfterNeed::Ended, &["true"]))
        .await;
    let succeeded = site
        .create(after("first", AfterNeed::Succeeded, &["true"]))
        .await;
    assert_eq!(ended.after[0].state, "waiting");
    let why = site.service.why(&ADA, &ended.id).await.expect("it waits");
    assert_eq!(why.summary, "it waits for the end of first");
    let stop = StopSession::default();
    site.service
        .stop(&ADA, "first", stop)
        .await
        .expect("accepted");
    let ended = site.await_state(&ended.id, "ended").await;
    assert_eq!(ended.outcome.expect("it has ended").outcome, "succeeded");
    assert_eq!(ended.after[0].state, "met");
    let vain = site.await_state(&succeeded.id, "ended").await;
    let outcome = vain.outcome.expect("it has ended");
    assert_eq!(
        (outcome.outcome.as_str(), outcome.cause.as_str()),
        ("cancelled", "dependency_failed")
    );
    assert!(outcome.reason.contains("`first`"), "{}", outcome.reason);
    assert_eq!((outcome.exit_code, vain.attempt), (123, 0));
    // Of what has ended, the outcome decides at once; and it stays when the row is gone.
    let late = site
        .create(after("first", AfterNeed::Succeeded, &["true"]))
        .await;
    assert_eq!(
        site.await_state(&late.id, "ended").await.after[0].state,
        "failed"
    );
    site.service
        .remove(&ADA, "first", false)
        .await
        .expect("accepted");
    site.await_gone("first").await;
    assert_eq!(site.show(&late.id).await.after[0].state, "failed");
    let problem = site
        .refused(after("first", AfterNeed::Ended, &["true"]))
        .await;
    assert_eq!(problem.code, ProblemCode::NoSuchSession);
    site.close().await;
}

/// A client that lost the answer sends its request again, when what it names is gone.
#[tokio::test]
async fn a_request_that_is_sent_again_is_answered_as_the_first_time() {
    let site = TestSite::new().await;
    let mut first = command(&["true"]);
    first.name = Some("first".to_owned());
    site.create(first).await;
    site.await_state("first", "ended").await;
    let key = || Some("key".to_owned());
    let request = after("first", AfterNeed::Ended, &["true"]);
    let made = site.service.create(&ADA, request.clone(), key()).await;
    let made = made.expect("made");
    let mut elements = array("fit", "1-2", &["true"]);
    elements.session.after.clone_from(&request.after);
    let array_key = || Some("array".to_owned());
    let fit = site
        .service
        .create_array(&ADA, elements.clone(), array_key());
    let fit = fit.await.expect("made");
    site.service
        .remove(&ADA, "first", false)
        .await
        .expect("accepted");
    site.await_gone("first").await;
    let again = site.service.create(&ADA, request.clone(), key()).await;
    let again = again.expect("it was made");
    assert_eq!(
        (again.already, again.session.id),
        (true, made.session.id.clone())
    );
    let again = site.service.create_array(&ADA, elements, array_key()).await;
    let again = again.expect("it was made");
    assert_eq!((again.already, again.array.id), (true, fit.array.id));
    // The controls: without the key, by another one, and another request by the same.
    let refused = async |request, key| {
        let made = site.service.create(&ADA, request, key).await;
        made.expect_err("it is refused").code
    };
    let gone = ProblemCode::NoSuchSession;
    assert_eq!(refused(request.clone(), None).await, gone);
    assert_eq!(refused(request, Some("new".to_owned())).await, gone);
    let other = after("first", AfterNeed::Succeeded, &["true"]);
    let reused = ProblemCode::IdempotencyKeyReused;
    assert_eq!(refused(other, key()).await, reused);
    site.close().await;
}

#[tokio::test]
async fn an_array_is_waited_for_as_a_whole() {
    let site = TestSite::new().await;
    let elements = vec![element(1, &["stay"], "a"), element(2, &["true"], "b")];
    let request = CreateArray {
        indices: None,
        elements,
        ..array("fit", "1", &["true"])
    };
    site.make(request).await;
    let waits = site
        .create(after("fit", AfterNeed::Succeeded, &["true"]))
        .await;
    let one = site
        .create(after("fit.2", AfterNeed::Succeeded, &["true"]))
        .await;
    let one = site.await_state(&one.id, "ended").await;
    assert_eq!(one.outcome.expect("it has ended").outcome, "succeeded");
    assert_eq!(site.show(&waits.id).await.state, "pending");
    let stop = StopSession::default();
    site.service
        .stop(&ADA, "fit.1", stop)
        .await
        .expect("accepted");
    let vain = site
        .await_state(&waits.id, "ended")
        .await
        .outcome
        .expect("it has ended");
    assert!(vain.reason.contains("`fit.1`"), "{}", vain.reason);
    let other = site.create(after("fit", AfterNeed::Ended, &["true"])).await;
    let other = site.await_state(&other.id, "ended").await;
    assert_eq!(other.outcome.expect("it has ended").outcome, "succeeded");
    site.close().await;
}
