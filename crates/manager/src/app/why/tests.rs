//! What `why` says in words.

use super::{limit_lines, sentence, urgency};
use crate::app::convert::shortened;
use domain::{LimitsReached, NodeId, Priority, SessionId, Span};
use lifecycle::manager::{Ahead, Explanation};
use scheduler::{NodeReasons, Reason};

#[test]
fn the_priority_of_who_goes_first_is_told_where_it_is_not_the_usual_one() {
    let behind = |number| {
        sentence(&Reason::BehindOthers {
            session: SessionId(1),
            name: "large".to_owned(),
            priority: Priority::try_from(number).expect("one"),
            waited: Span(601_234),
        })
    };
    assert_eq!(behind(50), "`large` has waited 10m1s and goes first");
    let said = "`large`, of priority 90, has waited 10m1s and goes first";
    assert_eq!(behind(90), said);
}

#[test]
fn another_priority_is_offered_only_where_a_node_would_take_it() {
    let offered = |nodes: &[&[Reason]]| {
        let nodes = nodes.iter().map(|reasons| NodeReasons {
            node: NodeId(1),
            name: "n1".to_owned(),
            reasons: reasons.to_vec(),
        });
        let ahead = Ahead {
            count: 1,
            names: vec!["first".to_owned()],
            enough: Priority::try_from(61).ok(),
        };
        let told = Explanation {
            nodes: nodes.collect(),
            ahead: Some(ahead),
            past: None,
        };
        urgency(&told, "late")
    };
    let short = [Reason::MembersShort { fits: 1, asked: 2 }];
    let gone = [Reason::Disconnected];
    let lacks = [Reason::NotEnforceable {
        row: "network.egress".to_owned(),
        reason: "no tap".to_owned(),
    }];
    let both = [short.clone(), gone.clone()].concat();
    let said = "`insula priority late 61` lets it go before first, once there is room";
    let cases: [(&[&[Reason]], _); 6] = [
        (&[&[]], Some(said)),
        (&[&short], Some(said)),
        (&[&gone, &short], Some(said)),
        (&[], None),
        (&[&gone, &lacks], None),
        (&[&both], None),
    ];
    for (nodes, expected) in cases {
        assert_eq!(offered(nodes).as_deref(), expected, "{nodes:?}");
    }
}

#[test]
fn limits_are_told_in_words() {
    let mut limits = LimitsReached::default();
    assert!(limit_lines(&limits, 64).is_empty());
    limits = LimitsReached {
        pids_hits: 3,
        stdout_dropped_bytes: 5 << 30,
        stderr_dropped_bytes: 0,
        tmp_full_bytes: Some(256 << 20),
        shm_full_bytes: None,
        files_incomplete: true,
    };
    assert_eq!(
        limit_lines(&limits, 64),
        [
            "the limit of 64 processes was reached 3 times; ask for more with --pids",
            "/tmp was full: its limit is 256 MiB, a quarter of the memory; write to /work, \
             or ask for more with --memory",
            "some of what it wrote is lost: its node's disk had no room for it, or failed",
            "5 GiB of stdout were dropped: the log keeps 256 MiB",
        ]
    );
    limits.pids_hits = 1;
    assert!(limit_lines(&limits, 64)[0].contains("reached once;"));
}

#[test]
fn a_long_reason_is_cut() {
    let long = "ä".repeat(1_000);
    assert_eq!(shortened(&long[..600]), &long[..600]);
    assert_eq!(shortened(&long), format!("{}...", &long[..600]));
}
