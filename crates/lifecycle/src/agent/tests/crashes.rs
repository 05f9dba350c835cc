//! Random lives of a node whose agent is killed at every possible point.

use super::fake_node::{FakeNode, id};
use super::{PURGE, STOP, desired};
use crate::agent::AgentEventKind;
use domain::{ExitCause, MemberState};
use node_api::Want;
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, prop_oneof};
use proptest::{prop_assert, prop_assert_eq, proptest};
use std::collections::{BTreeMap, BTreeSet};

const MEMBERS: u64 = 5;

#[derive(Clone, Debug)]
enum Step {
    /// The manager wants one more thing of a member.
    Further {
        member: u64,
    },
    /// The manager wants a member to stand still, or no more.
    Hold {
        member: u64,
    },
    /// The manager forgets or remembers a member.
    Forget {
        member: u64,
    },
    Remember {
        member: u64,
    },
    /// The manager's set arrives, or one from before.
    Send,
    SendOld {
        back: u64,
    },
    Work {
        nth: usize,
    },
    FailNext {
        act: &'static str,
    },
    Exit {
        member: u64,
    },
    Die {
        member: u64,
    },
    Wait {
        micros: u64,
    },
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let member = || 0..MEMBERS;
    let acts = [
        "make", "prepare", "start", "order", "end", "record", "remove", "purge", "pause", "resume",
    ];
    let act = proptest::sample::select(acts.to_vec());
    let step = prop_oneof![
        3 => member().prop_map(|member| Step::Further { member }),
        3 => member().prop_map(|member| Step::Hold { member }),
        1 => member().prop_map(|member| Step::Forget { member }),
        2 => member().prop_map(|member| Step::Remember { member }),
        4 => Just(Step::Send),
        1 => (0..4_u64).prop_map(|back| Step::SendOld { back }),
        20 => (0..8_usize).prop_map(|nth| Step::Work { nth }),
        1 => act.prop_map(|act| Step::FailNext { act }),
        2 => member().prop_map(|member| Step::Exit { member }),
        1 => member().prop_map(|member| Step::Die { member }),
        2 => (0..5_000_000_u64).prop_map(|micros| Step::Wait { micros }),
        3 => Just(Step::Crash),
    ];
    vec(step, 0..250)
}

/// Members with what is wanted of them, and whether they are to stand still.
type Set = Vec<(u64, Want, bool)>;

/// The manager, as far as a node sees it.

#[derive(Debug, Default)]
struct Manager {
    wants: BTreeMap<u64, Want>,
    forgotten: BTreeSet<u64>,
    held: BTreeSet<u64>,
    sent: Vec<Set>,
    /// Members that some sent set wanted stopped.
    ordered: BTreeSet<u64>,
}

impl Manager {
    fn further(&mut self, member: u64) {
        let next = match self.wants.get(&member) {
            None => Want::Run,
            Some(Want::Run) => STOP,
            Some(Want::Stop { .. } | Want::Purge { .. }) => PURGE,
        };
        self.wants.insert(member, next);
    }

    fn set(&self) -> Set {
        let named = self
            .wants
            .iter()
            .filter(|(member, _)| !self.forgotten.contains(member));
        named
            .map(|(member, want)| (*member, want.clone(), self.held.contains(member)))
            .collect()
    }

    fn send(&mut self, node: &mut FakeNode) {
        let set = self.set();
        let stopped = set.iter().filter(|(_, want, _)| *want != Want::Run);
        self.ordered.extend(stopped.map(|(member, ..)| *member));
        self.sent.push(set.clone());
        node.tell(desired_with_pauses(
            u64::try_from(self.sent.len()).expect("few"),
            &set,
        ));
    }
}

fn desired_with_pauses(generation: u64, set: &Set) -> AgentEventKind {
    let wants: Vec<(u64, Want)> = set
        .iter()
        .map(|(member, want, _)| (*member, want.clone()))
        .collect();
    let AgentEventKind::Desired { mut desired } = desired(generation, &wants) else {
        unreachable!("it is one")
    };
    for (member, (.., held)) in desired.members.iter_mut().zip(set) {
        member.paused = *held;
    }
    AgentEventKind::Desired { desired }
}

fn apply(step: &Step, node: &mut FakeNode, manager: &mut Manager) {
    match step {
        Step::Further { member } => manager.further(*member),
        Step::Hold { member } => {
            if !manager.held.remove(member) {
                manager.held.insert(*member);
            }
        }
        Step::Forget { member } => {
            manager.forgotten.insert(*member);
        }
        Step::Remember { member } => {
            manager.forgotten.remove(member);
        }
        Step::Send => manager.send(node),
        Step::SendOld { back } => {
            let count = u64::try_from(manager.sent.len()).expect("few");
            if let Some(number) = count.checked_sub(*back).filter(|number| *number > 0) {
                let place = usize::try_from(number - 1).expect("few");
                let set = manager.sent[place].clone();
                node.tell(desired_with_pauses(number, &set));
            }
        }
        Step::Work { nth } => node.work(*nth),
        Step::FailNext { act } => {
            node.fail_next.insert(*act);
        }
        Step::Exit { member } => node.guest_ends(id(*member), ExitCause::Own),
        Step::Die { member } => node.guest_dies(id(*member)),
        Step::Wait { micros } => {
            node.clock += micros;
            node.tell(AgentEventKind::Tick);
        }
        Step::Crash => node.crash(),
    }
}

proptest! {
    #[test]
    fn whatever_happens_nothing_runs_twice_and_everything_ends(steps in steps()) {
        let mut node = FakeNode::new();
        let mut manager = Manager::default();
        let mut ended: BTreeMap<u64, MemberState> = BTreeMap::new();
        for step in &steps {
            apply(step, &mut node, &mut manager);
            for member in 0..MEMBERS {
                let starts = node.disk.starts.get(&id(member)).copied().unwrap_or(0);
                prop_assert!(starts <= 1, "member {member} ran {starts} times after {step:?}");
                let hurt = node.disk.hurt.contains(&id(member));
                prop_assert!(!hurt || manager.ordered.contains(&member), "killed by ignorance");
            }
        }
        // What ended is told the same way by every later process.
        node.fail_next.clear();
        node.settle();
        for member in 0..MEMBERS {
            if let Some(state @ MemberState::Exited { .. }) = node.core.state(id(member)) {
                ended.insert(member, state.clone());
            }
        }
        node.crash();
        node.settle();
        for (member, state) in &ended {
            if node.disk.directories.contains_key(&id(*member)) {
                prop_assert_eq!(node.core.state(id(*member)), Some(state));
            }
        }
        // What is wanted of those that run holds, in the kernel and in the guest.
        manager.send(&mut node);
        node.settle();
        for (member, want, held) in manager.set() {
            if want == Want::Run && node.disk.alive.contains(&id(member)) {
                let frozen = node.disk.frozen.get(&id(member)) == Some(&true);
                let told = node.disk.told_paused.contains(&id(member));
                prop_assert_eq!((frozen, told), (held, held), "member {}", member);
            }
        }
        // Unclaimed ones live on; claimed and purged, everything goes.
        for member in 0..MEMBERS {
            manager.wants.insert(member, PURGE);
        }
        manager.forgotten.clear();
        manager.send(&mut node);
        node.settle();
        prop_assert!(node.disk.directories.is_empty() && node.disk.leftovers.is_empty());
        prop_assert!(node.disk.alive.is_empty());
        for reported in node.core.report(1).members {
            prop_assert_eq!(reported.state, MemberState::Gone);
        }
    }
}
