//! What operators order of nodes.

use crate::site::{TestSite, caller, command, operator};
use domain::NodeId;
use public_api::{DrainNode, DrainedView, NodeView, ProblemCode, StopSession};

fn because(reason: &str) -> DrainNode {
    DrainNode {
        reason: reason.to_owned(),
        stop: None,
    }
}

async fn drained(site: &TestSite) -> Option<DrainedView> {
    let node: NodeView = site
        .service
        .node(&operator(), "n1")
        .await
        .expect("it is there");
    node.drained
}

#[tokio::test]
async fn a_session_waits_for_a_drained_node_and_is_told_why() {
    let site = TestSite::new().await;
    let service = &site.service;
    let node = service
        .drain_node(&operator(), "n1", because("a new disk"))
        .await
        .expect("it is drained");
    assert_eq!(node.drained.expect("it is").by, "root");
    let waits = site.create(command(&["true"])).await;
    assert_eq!(waits.state, "pending");
    let why = service.why(&caller("ada"), &waits.id).await.expect("told");
    let reason = &why.nodes[0].reasons[0];
    assert_eq!(reason.code, "drained");
    assert_eq!(reason.message, "it is drained by root: a new disk");
    let suggestion = why.suggestion.expect("the smallest change");
    assert!(
        suggestion.contains("insula node undrain n1"),
        "{suggestion}"
    );
    let usage = service.site_usage(&operator()).await.expect("told");
    assert!(usage.nodes[0].drained);
    let site = site.restart().await;
    assert_eq!(drained(&site).await.expect("still").reason, "a new disk");
    site.service
        .undrain_node(&operator(), "n1")
        .await
        .expect("taken back");
    assert_eq!(drained(&site).await, None);
    site.await_state(&waits.id, "ended").await;
    site.close().await;
}

#[tokio::test]
async fn a_drain_may_stop_what_lives_there() {
    let site = TestSite::new().await;
    let stays = site.create(command(&["stay"])).await;
    site.await_state(&stays.id, "running").await;
    let drained = site
        .service
        .drain_node(&operator(), "n1", because(""))
        .await;
    assert_eq!(drained.expect("it goes on").sessions, ["stay"]);
    assert_eq!(site.show(&stays.id).await.state, "running");
    let order = DrainNode {
        stop: Some(StopSession::default()),
        ..because("")
    };
    let stopped = site.service.drain_node(&operator(), "n1", order).await;
    stopped.expect("drained");
    let ended = site.await_state(&stays.id, "ended").await;
    let outcome = ended.outcome.expect("it has ended");
    assert_eq!(outcome.reason, "stopped by root");
    site.close().await;
}

#[tokio::test]
async fn a_node_is_removed_when_it_is_gone_and_its_sessions_are_lost_by_an_operators_word() {
    let site = TestSite::new().await;
    let stays = site.create(command(&["stay"])).await;
    site.await_state(&stays.id, "running").await;
    let service = &site.service;
    let refused = service.remove_node(&operator(), "n1", true).await;
    let refused = refused.expect_err("it is connected");
    assert_eq!(refused.code, ProblemCode::NodeInUse);
    let agents = site.manager.manager_api();
    agents.goodbye(NodeId(1)).await.expect("it goes");
    let refused = service.remove_node(&operator(), "n1", false).await;
    let refused = refused.expect_err("the session may run");
    assert_eq!(refused.detail, "node n1 may still run stay");
    assert!(refused.hint.contains("node rm --lost n1"), "{refused:?}");
    for _ in 0..2 {
        let removed = service.remove_node(&operator(), "n1", true).await;
        removed.expect("and once more: it is so already");
    }
    let ended = site.await_state(&stays.id, "ended").await;
    let outcome = ended.outcome.expect("it has ended");
    assert_eq!(outcome.outcome, "lost");
    assert_eq!(outcome.reason, "its node n1 is gone");
    assert!(service.nodes(&operator()).await.expect("told").is_empty());
    let gone = service.node(&operator(), "n1").await;
    assert_eq!(gone.expect_err("removed").code, ProblemCode::NoSuchNode);
    site.close().await;
}

#[tokio::test]
async fn the_daemons_own_node_is_never_removed() {
    let site = TestSite::new().await;
    site.manager.owns_node(NodeId(1));
    let agents = site.manager.manager_api();
    agents.goodbye(NodeId(1)).await.expect("it goes");
    let refused = site.service.remove_node(&operator(), "n1", true).await;
    let refused = refused.expect_err("it is its own");
    assert_eq!(refused.code, ProblemCode::NodeInUse);
    assert!(refused.hint.contains("insula down"), "{refused:?}");
    site.close().await;
}

#[tokio::test]
async fn only_operators_order_anything_of_nodes_and_only_of_known_ones() {
    let site = TestSite::new().await;
    let (service, ada) = (&site.service, caller("ada"));
    let codes = [
        service.node(&ada, "n1").await.map(drop),
        service.drain_node(&ada, "n1", because("")).await.map(drop),
        service.undrain_node(&ada, "n1").await.map(drop),
        service.remove_node(&ada, "n1", true).await,
    ];
    for refused in codes {
        assert_eq!(refused.expect_err("hers").code, ProblemCode::Forbidden);
    }
    let root = operator();
    let codes = [
        service.node(&root, "n2").await.map(drop),
        service.drain_node(&root, "n2", because("")).await.map(drop),
        service.undrain_node(&root, "n2").await.map(drop),
        service.remove_node(&root, "n2", true).await,
    ];
    for refused in codes {
        assert_eq!(refused.expect_err("none").code, ProblemCode::NoSuchNode);
    }
    for reason in ["x".repeat(201), "a\nb".to_owned()] {
        let refused = service.drain_node(&root, "n1", because(&reason)).await;
        assert_eq!(refused.expect_err("odd").code, ProblemCode::InvalidField);
    }
    assert_eq!(drained(&site).await, None);
    site.close().await;
}
