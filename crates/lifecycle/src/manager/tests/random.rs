//! Whatever happens in whatever order: the bench checks after every step what must always hold.

use super::arrays::array_request;
use super::bench::{Bench, MIB, exited, order, running, spec, stopped};
use super::dependencies::{on_array, on_session};
use crate::manager::{EventKind, RequestToken};
use domain::{
    Dependency, MemberId, MemberPause, MemberState, Need, NodeId, NodeLostPolicy, Priority,
    SessionId, SessionSpec, Slots,
};
use proptest::prelude::{Just, Strategy, any, prop, prop_oneof};
use proptest::test_runner::Config;
use proptest::{prop_assert, prop_assert_eq, proptest};

#[derive(Clone, Debug)]
enum Act {
    Create {
        cpu: u64,
        memory: u64,
        members: u32,
        again: bool,
        retry: u32,
        after: Option<(usize, bool)>,
        priority: u32,
    },
    CreateArray {
        size: u32,
        throttle: u32,
        retry: u32,
        after: Option<(usize, bool)>,
        priority: u32,
    },
    Prioritize {
        which: usize,
        priority: u32,
    },
    Throttle {
        which: usize,
        throttle: u32,
    },
    StopArray {
        which: usize,
    },
    RemoveArray {
        which: usize,
    },
    Stop {
        which: usize,
    },
    Remove {
        which: usize,
    },
    Rename {
        which: usize,
        name: u8,
    },
    Pause {
        which: usize,
        paused: bool,
    },
    Connect {
        node: u64,
    },
    Disconnect {
        node: u64,
    },
    Operate {
        node: u64,
        how: u8,
    },
    Report {
        node: u64,
        fates: Vec<u8>,
        stale: bool,
    },
    Pass {
        ms: u64,
    },
    Restart,
}

/// Few, so that many have the same.
fn priority() -> impl Strategy<Value = u32> {
    prop_oneof![2 => Just(50_u32), 1 => Just(10), 1 => Just(90)]
}

fn act() -> impl Strategy<Value = Act> {
    let fates = prop::collection::vec(any::<u8>(), 12);
    let after = || prop::option::of((0_usize..20, any::<bool>()));
    let create = (
        0_u64..5,
        0_u64..600,
        1_u32..4,
        any::<bool>(),
        0_u32..3,
        after(),
        priority(),
    );
    let array = (1_u32..6, 0_u32..4, 0_u32..3, after(), priority());
    prop_oneof![
        4 => create.prop_map(|(cpu, memory, members, again, retry, after, priority)| Act::Create {
            cpu, memory, members, again, retry, after, priority
        }),
        2 => array.prop_map(|(size, throttle, retry, after, priority)| Act::CreateArray {
            size, throttle, retry, after, priority
        }),
        1 => (0_usize..20, priority())
            .prop_map(|(which, priority)| Act::Prioritize { which, priority }),
        1 => (0_usize..20, 0_u32..4)
            .prop_map(|(which, throttle)| Act::Throttle { which, throttle }),
        1 => (0_usize..20).prop_map(|which| Act::StopArray { which }),
        1 => (0_usize..20).prop_map(|which| Act::RemoveArray { which }),
        2 => (0_usize..20).prop_map(|which| Act::Stop { which }),
        2 => (0_usize..20).prop_map(|which| Act::Remove { which }),
        2 => (0_usize..20, 0_u8..4).prop_map(|(which, name)| Act::Rename { which, name }),
        3 => (0_usize..20, any::<bool>()).prop_map(|(which, paused)| Act::Pause { which, paused }),
        2 => (1_u64..4).prop_map(|node| Act::Connect { node }),
        1 => (1_u64..4).prop_map(|node| Act::Disconnect { node }),
        3 => (1_u64..4, 0_u8..6).prop_map(|(node, how)| Act::Operate { node, how }),
        9 => (1_u64..4, fates, any::<bool>())
            .prop_map(|(node, fates, stale)| Act::Report { node, fates, stale }),
        2 => (0_u64..90_000).prop_map(|ms| Act::Pass { ms }),
        1 => Just(Act::Restart),
    ]
}

/// Any state at all, whatever the member was before: a core must bear what a node says.
fn fate(member: MemberId, draw: u8) -> Option<MemberState> {
    match draw % 10 {
        0 => None,
        1 => Some(MemberState::Assigned),
        2 => Some(MemberState::Preparing),
        3 => Some(MemberState::Starting),
        4 | 5 => Some(running()),
        6 => Some(MemberState::Stopping { since: None }),
        7 => Some(exited(member, draw / 10)),
        8 => Some(stopped(member)),
        _ => Some(MemberState::Gone),
    }
}

fn pause_of(draw: u8) -> MemberPause {
    match draw % 4 {
        0 | 1 => MemberPause::On,
        2 => MemberPause::Off,
        _ => MemberPause::Failed {
            reason: "it will not".to_owned(),
        },
    }
}

fn nth(bench: &Bench, which: usize) -> Option<SessionId> {
    let ids: Vec<SessionId> = bench.view.sessions.keys().copied().collect();
    ids.get(which % ids.len().max(1)).copied()
}

fn remove(bench: &mut Bench, session: SessionId) {
    let (token, order) = (RequestToken(0), order("ada"));
    bench.step(EventKind::Remove {
        token,
        session,
        order,
    });
}

fn nth_array(bench: &Bench, which: usize) -> Option<u64> {
    let ids: Vec<u64> = bench.view.arrays().map(|array| array.id.0).collect();
    ids.get(which % ids.len().max(1)).copied()
}

/// Waits for some session or array, or for nothing.
fn dependencies(bench: &Bench, after: Option<(usize, bool)>) -> Vec<Dependency> {
    let Some((which, succeeded)) = after else {
        return vec![];
    };
    let need = if succeeded {
        Need::Succeeded
    } else {
        Need::Ended
    };
    let array = nth_array(bench, which).filter(|_| which.is_multiple_of(2));
    let on = array.map(|array| on_array(array, need));
    let session = || nth(bench, which).map(|session| on_session(session, need));
    on.or_else(session).into_iter().collect()
}

fn create_array(
    bench: &mut Bench,
    (size, throttle, retry): (u32, u32, u32),
    (after, priority): (Option<(usize, bool)>, u32),
) {
    let slots = Slots::of(10_000, MIB);
    let id = bench.next_array();
    let mut request = array_request(id, size, SessionSpec { slots, ..spec() });
    request.record.throttle = (throttle > 0).then_some(throttle);
    request.record.retry = retry;
    request.record.priority = Priority::try_from(priority).expect("one");
    request.after = dependencies(bench, after);
    bench.create_array(request);
}

/// A node tells of what it was told of, as chance has it.
fn report(bench: &mut Bench, node: u64, fates: Vec<u8>, stale: bool) {
    let wanted: Vec<MemberId> = bench
        .told
        .get(&NodeId(node))
        .map(|desired| desired.members.iter().map(|member| member.id).collect())
        .unwrap_or_default();
    let fates_again: Vec<u8> = fates.iter().rev().copied().collect();
    let kept = bench.told.get(&NodeId(node));
    let kept = kept.map_or(vec![], |desired| desired.kept.clone());
    // Some are gone, some are told in full all the same.
    let kept = kept
        .into_iter()
        .zip(fates.clone().into_iter().rev().cycle());
    let (settled, full): (Vec<_>, Vec<_>) = kept.partition(|(_, draw)| draw % 3 == 1);
    let settled: Vec<MemberId> = settled.into_iter().map(|(id, _)| id).collect();
    let members: Vec<(MemberId, MemberState)> = wanted
        .into_iter()
        .zip(fates.into_iter().cycle())
        .chain(full)
        .filter_map(|(id, draw)| Some((id, fate(id, draw)?)))
        .collect();
    // A node may say anything of pauses, too.
    for ((id, _), draw) in members.iter().zip(fates_again) {
        bench.pauses.insert(*id, pause_of(draw));
    }
    let obeyed = if stale { (0, 0) } else { bench.obeyed(node) };
    bench.report_settled(node, obeyed, &members, settled);
}

fn perform(bench: &mut Bench, act: Act) {
    match act {
        Act::Create {
            cpu,
            memory,
            members,
            again,
            retry,
            after,
            priority,
        } => {
            let node_lost = if again {
                NodeLostPolicy::Reschedule
            } else {
                NodeLostPolicy::Wait
            };
            let slots = Slots::of(cpu * 10_000, memory * MIB);
            let mut request = bench.request(SessionSpec {
                slots,
                members,
                node_lost,
                ..spec()
            });
            request.retry = retry;
            request.priority = Priority::try_from(priority).expect("one");
            request.after = dependencies(bench, after);
            bench.create_request(request);
        }
        Act::CreateArray {
            size,
            throttle,
            retry,
            after,
            priority,
        } => create_array(bench, (size, throttle, retry), (after, priority)),
        Act::Prioritize { which, priority } => prioritize(bench, which, priority),
        Act::Throttle { which, throttle } => throttle_one(bench, which, throttle),
        Act::StopArray { which } => {
            if let Some(array) = nth_array(bench, which) {
                bench.stop_array(array);
            }
        }
        Act::RemoveArray { which } => {
            if let Some(array) = nth_array(bench, which) {
                bench.remove_array(array);
            }
        }
        Act::Stop { which } => {
            if let Some(session) = nth(bench, which) {
                bench.stop(session);
            }
        }
        Act::Remove { which } => {
            if let Some(session) = nth(bench, which) {
                remove(bench, session);
            }
        }
        Act::Rename { which, name } => rename(bench, which, name),
        Act::Pause { which, paused } => hold(bench, which, paused),
        Act::Connect { node } => bench.connect(node),
        Act::Disconnect { node } => {
            bench.step(EventKind::NodeDisconnected { node: NodeId(node) });
        }
        Act::Operate { node, how } => operate(bench, node, how),
        Act::Report { node, fates, stale } => report(bench, node, fates, stale),
        Act::Pass { ms } => bench.pass(ms),
        Act::Restart => bench.restart(),
    }
}

fn operate(bench: &mut Bench, node: u64, how: u8) {
    match how {
        0 => bench.drain(node, None),
        1 => bench.drain(node, Some(order("ada"))),
        2 | 3 => bench.undrain(node),
        4 => bench.remove_node(node, false),
        _ => bench.remove_node(node, true),
    };
}

fn throttle_one(bench: &mut Bench, which: usize, throttle: u32) {
    if let Some(array) = nth_array(bench, which) {
        bench.throttle(array, (throttle > 0).then_some(throttle));
    }
}

fn rename(bench: &mut Bench, which: usize, name: u8) {
    if let Some(session) = nth(bench, which) {
        bench.rename(session, &format!("other-{name}"));
    }
}

/// One of three an array.
fn prioritize(bench: &mut Bench, which: usize, priority: u32) {
    let array = nth_array(bench, which).filter(|_| which.is_multiple_of(3));
    if let Some(array) = array {
        bench.prioritize_array(array, priority);
    } else if let Some(session) = nth(bench, which) {
        bench.prioritize(session, priority);
    }
}

fn hold(bench: &mut Bench, which: usize, paused: bool) {
    if let Some(session) = nth(bench, which) {
        bench.hold(session, paused);
    }
}

proptest! {
    #![proptest_config(Config { cases: 300, ..Config::default() })]

    #[test]
    fn what_must_hold_holds(acts in prop::collection::vec(act(), 1..60)) {
        let mut bench = Bench::new();
        for act in acts {
            perform(&mut bench, act);
        }
        // Whatever happened: once everybody is there and obeys, everything that is asked to go
        // goes, and nothing is stranded.
        for node in 1..4 {
            bench.connect(node);
        }
        let all: Vec<SessionId> = bench.view.sessions.keys().copied().collect();
        for session in all {
            bench.remove(session);
        }
        for node in 1..4 {
            bench.report(node, &[]);
            bench.report(node, &[]);
        }
        prop_assert!(bench.view.sessions.is_empty(), "{:?}", bench.view.sessions);
        prop_assert_eq!(bench.view.arrays().count(), 0);
    }
}
