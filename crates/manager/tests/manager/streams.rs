//! Output and input, across starts, ends and breaks.

use crate::site::{TestSite, caller, command};
use bytes::Bytes;
use domain::{ExitCause, ExitHow, MemberState};
use public_api::{LogQuery, OutputStream, ProblemCode, StdinQuery, StopSession};

fn follow() -> LogQuery {
    LogQuery {
        follow: true,
        ..LogQuery::default()
    }
}

#[tokio::test]
async fn output_of_an_ended_session_is_read_from_any_offset() {
    let site = TestSite::new().await;
    let made = site.create(command(&["true"])).await;
    site.await_state(&made.id, "ended").await;
    assert_eq!(
        site.output(&made.id, LogQuery::default()).await,
        ("hello\n".to_owned(), 6)
    );
    assert_eq!(
        site.output(&made.id, follow()).await,
        ("hello\n".to_owned(), 6)
    );
    let query = LogQuery {
        offset: 6,
        ..LogQuery::default()
    };
    assert_eq!(site.output(&made.id, query).await, (String::new(), 6));
    site.close().await;
}

#[tokio::test]
async fn a_follower_waits_for_the_start_and_stays_to_the_end() {
    let site = TestSite::new().await;
    let made = site.create(command(&["slow"])).await;
    site.await_state(&made.id, "preparing").await;
    let now = site.output(&made.id, LogQuery::default()).await;
    assert_eq!(now, (String::new(), 0), "without --follow nobody waits");
    let reader = site.output(&made.id, follow());
    let life = async {
        site.agent
            .change(|members| {
                for member in members.values_mut() {
                    member.state = MemberState::Running {
                        since: manager::clock::now().wall,
                    };
                }
            })
            .await;
        site.await_state(&made.id, "running").await;
        while site.agent.opened() == 0 {
            tokio::task::yield_now().await;
        }
        site.agent
            .change(|members| {
                for (id, member) in members {
                    let how = ExitHow::Exited { code: 0 };
                    member.state = crate::agent::exited(*id, how, ExitCause::Own);
                }
            })
            .await;
    };
    let (read, ()) = tokio::join!(reader, life);
    assert_eq!(read, ("hello\n".to_owned(), 6));
    assert_eq!(
        site.show(&made.id).await.state,
        "ended",
        "the end of the stream is the end"
    );
    site.close().await;
}

#[tokio::test]
async fn a_stream_that_breaks_goes_on_where_it_was() {
    let site = TestSite::new().await;
    let made = site.create(command(&["true"])).await;
    site.await_state(&made.id, "ended").await;
    site.agent.break_streams(2);
    assert_eq!(
        site.output(&made.id, follow()).await,
        ("hello\n".to_owned(), 6)
    );
    assert_eq!(site.agent.opened(), 3);
    site.close().await;
}

#[tokio::test]
async fn a_session_that_never_ran_has_an_end_and_no_output() {
    let site = TestSite::new().await;
    let mut large = command(&["stay"]);
    large.cpu = Some("4".to_owned());
    let runs = site.create(large.clone()).await;
    let waits = site.create(large).await;
    site.await_state(&runs.id, "running").await;
    let reader = site.output(&waits.id, follow());
    let stop = async {
        let stop = StopSession::default();
        site.service
            .stop(&caller("ada"), &waits.id, stop)
            .await
            .expect("accepted");
    };
    let (read, ()) = tokio::join!(reader, stop);
    assert_eq!(read, (String::new(), 0));
    site.close().await;
}

#[tokio::test]
async fn streams_of_one_session_are_bounded_and_given_back() {
    let site = TestSite::new().await;
    let made = site.create(command(&["slow"])).await;
    let open = || async {
        let ada = caller("ada");
        site.service
            .logs(&ada, &made.id, OutputStream::Stdout, follow())
            .await
    };
    let mut streams = Vec::new();
    for _ in 0..64 {
        streams.push(open().await.expect("below the limit"));
    }
    let refused = open().await.expect_err("one too many");
    assert_eq!(refused.code, ProblemCode::Busy);
    drop(streams);
    // The followers notice that nobody listens, each in its own time.
    while open().await.is_err() {
        tokio::task::yield_now().await;
    }
    site.close().await;
}

#[tokio::test]
async fn input_is_taken_at_its_offset_and_refused_where_there_is_none() {
    let site = TestSite::new().await;
    let ada = caller("ada");
    let mut request = command(&["stay"]);
    request.stdin = true;
    let made = site.create(request).await;
    let mut sent = 0;
    let text = Bytes::from_static(b"print(6*7)");
    loop {
        let rest = text.slice(usize::try_from(sent).expect("small")..);
        let query = StdinQuery {
            offset: sent,
            close: true,
        };
        let reply = site
            .service
            .stdin(&ada, &made.id, query, rest)
            .await
            .expect("it runs");
        sent = reply.offset;
        if reply.closed {
            break;
        }
    }
    let member = format!("{}.1.0", made.id).parse().expect("an id");
    assert_eq!(site.agent.input(member), b"print(6*7)");
    site.service
        .stop(&ada, &made.id, StopSession::default())
        .await
        .expect("accepted");
    site.await_state(&made.id, "ended").await;
    let query = StdinQuery {
        offset: 3,
        close: false,
    };
    let late = site
        .service
        .stdin(&ada, &made.id, query, Bytes::new())
        .await
        .expect("told");
    assert!(late.closed);
    let without = site.create(command(&["stay"])).await;
    let query = StdinQuery::default();
    let refused = site
        .service
        .stdin(&ada, &without.id, query, Bytes::new())
        .await;
    assert_eq!(
        refused.expect_err("it has no input").code,
        ProblemCode::WrongState
    );
    site.close().await;
}

#[tokio::test]
async fn a_node_that_is_away_is_told_to_a_reader() {
    let site = TestSite::new().await;
    let made = site.create(command(&["true"])).await;
    site.await_state(&made.id, "ended").await;
    let node = site.agent.node;
    site.manager
        .manager_api()
        .goodbye(node)
        .await
        .expect("heard");
    let ada = caller("ada");
    let files = site
        .service
        .files(&ada, &made.id, public_api::FilesQuery::default())
        .await;
    assert_eq!(
        files.err().expect("away").code,
        ProblemCode::NodeUnreachable
    );
    let query = LogQuery::default();
    let stream = site
        .service
        .logs(&ada, &made.id, OutputStream::Stdout, query)
        .await;
    let problem = stream.expect_err("the node is away");
    assert_eq!(problem.code, ProblemCode::NodeUnreachable);
    site.close().await;
}

#[tokio::test]
async fn output_that_is_gone_is_a_refusal_and_no_broken_stream() {
    let site = TestSite::new().await;
    let made = site.create(command(&["true"])).await;
    site.await_state(&made.id, "ended").await;
    site.agent.change(std::collections::BTreeMap::clear).await;
    let ada = caller("ada");
    for query in [LogQuery::default(), follow()] {
        let logs = site
            .service
            .logs(&ada, &made.id, OutputStream::Stdout, query);
        let Err(problem) = logs.await else {
            panic!("there is nothing")
        };
        assert_eq!(problem.code, ProblemCode::NoSuchFile);
    }
    site.close().await;
}
