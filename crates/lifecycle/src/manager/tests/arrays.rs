//! Arrays: made, throttled, stopped and removed as a whole.

use super::bench::{Bench, exited, order, owner, running, spec, stopped};
use crate::manager::{
    Answer, CreateArrayRequest, EventKind, Holder, LIVING_LIMIT, NewElement, Refusal, RequestToken,
};
use domain::{
    ArrayId, ArrayRecord, MemberId, MemberState, SessionId, SessionKind, SessionSpec, Slots,
    Timestamp,
};
use std::collections::BTreeMap;

pub(super) const MIB: u64 = 1 << 20;

/// An array of `size` elements with the indices from 1; its id and those of its elements are made
/// from `id`.
pub(super) fn array_request(id: u64, size: u32, spec: SessionSpec) -> CreateArrayRequest {
    let elements = (1..=size).map(|index| NewElement {
        session: SessionId(id * 100_000 + u64::from(index)),
        index,
        command: None,
        env: BTreeMap::from([("SEED".to_owned(), index.to_string())]),
    });
    CreateArrayRequest {
        record: ArrayRecord {
            id: ArrayId(id),
            name: "unnamed".parse().expect("a name"),
            owner: owner(),
            size,
            first_index: 1,
            last_index: size,
            throttle: None,
            priority: domain::Priority::USUAL,
            retry: 0,
            parameters: vec!["SEED".to_owned()],
            template: spec,
            digest: "d".to_owned(),
            created_at: Timestamp(0),
        },
        name: None,
        kind: SessionKind::Batch,
        elements: elements.collect(),
        after: vec![],
        key: None,
    }
}

pub(super) fn element(array: u64, index: u32) -> SessionId {
    SessionId(array * 100_000 + u64::from(index))
}

/// Needs a tenth of the bench's node.
fn small() -> SessionSpec {
    SessionSpec {
        slots: Slots::of(4_000, 10 * MIB),
        ..spec()
    }
}

impl Bench {
    pub(super) fn create_array(&mut self, request: CreateArrayRequest) -> Answer {
        let (token, request) = (RequestToken(1), Box::new(request));
        self.step(EventKind::CreateArray { token, request });
        self.answer()
    }

    pub(super) fn throttle(&mut self, array: u64, throttle: Option<u32>) {
        self.step(EventKind::Throttle {
            token: RequestToken(2),
            array: ArrayId(array),
            throttle,
        });
    }

    pub(super) fn stop_array(&mut self, array: u64) -> Answer {
        self.step(EventKind::StopArray {
            token: RequestToken(3),
            array: ArrayId(array),
            order: order("ada"),
        });
        self.answer()
    }

    pub(super) fn remove_array(&mut self, array: u64) -> Answer {
        self.step(EventKind::RemoveArray {
            token: RequestToken(4),
            array: ArrayId(array),
            order: order("ada"),
        });
        self.answer()
    }

    /// Elements by their index that are in a state.
    fn indices(&self, array: u64, word: &str) -> Vec<u32> {
        let elements = self.site.elements(ArrayId(array));
        let found = elements.filter(|record| record.state.word() == word);
        found
            .filter_map(|record| record.array)
            .map(|(_, index)| index)
            .collect()
    }

    /// Everything that a node was told to run has got as far as `state` says.
    pub(super) fn obey(&mut self, state: impl Fn(MemberId) -> MemberState) {
        let told = self.told.get(&domain::NodeId(1)).cloned();
        let told = told.expect("the node was told something");
        let members: Vec<(MemberId, MemberState)> = told
            .members
            .iter()
            .map(|member| match &member.want {
                node_api::Want::Run => (member.id, state(member.id)),
                node_api::Want::Stop { .. } => (member.id, stopped(member.id)),
                node_api::Want::Purge { .. } => (member.id, MemberState::Gone),
            })
            .collect();
        self.report_settled(1, self.obeyed(1), &members, told.kept);
    }
}

#[test]
fn an_array_is_made_in_one_step_and_its_elements_differ_where_they_were_told_to() {
    let mut bench = Bench::empty();
    let mut request = array_request(7, 3, small());
    request.elements[1].command = Some(vec!["other".to_owned()]);
    let made = Answer::ArrayCreated {
        array: ArrayId(7),
        already: false,
    };
    assert_eq!(bench.create_array(request), made);
    assert_eq!(bench.site.elements(ArrayId(7)).count(), 3);
    let second = bench.record(element(7, 2));
    assert_eq!(second.spec.command, ["other"]);
    assert_eq!(
        (
            second.spec.env["SEED"].as_str(),
            second.shown_name().as_str()
        ),
        ("2", "train.2")
    );
    assert_eq!(bench.record(element(7, 3)).spec.command, ["train"]);
    assert_eq!(
        bench.codes(),
        ["array.created"],
        "one event, not one for each element"
    );
    bench.restart();
    assert_eq!(
        bench.site.array(ArrayId(7)).map(|array| array.size),
        Some(3)
    );
}

#[test]
fn the_same_key_makes_one_array_also_after_a_restart() {
    let mut bench = Bench::empty();
    let keyed = |id| CreateArrayRequest {
        key: Some("k".to_owned()),
        ..array_request(id, 2, small())
    };
    bench.create_array(keyed(7));
    bench.restart();
    let known = Answer::ArrayCreated {
        array: ArrayId(7),
        already: true,
    };
    assert_eq!(bench.create_array(keyed(8)), known);
    let mut other = keyed(9);
    other.record.digest = "e".to_owned();
    let reused = Refusal::KeyReused {
        session: element(7, 1),
    };
    assert_eq!(
        bench.create_array(other),
        Answer::Refused { refusal: reused }
    );
}

#[test]
fn a_name_is_one_of_an_array_or_a_session_while_an_element_lives() {
    let mut bench = Bench::new();
    let named = |id| CreateArrayRequest {
        name: Some("fit".parse().expect("a name")),
        ..array_request(id, 2, small())
    };
    bench.create_array(named(7));
    let taken = |answer| match answer {
        Answer::Refused {
            refusal: Refusal::NameTaken { holder, .. },
        } => holder,
        other => panic!("{other:?}"),
    };
    let holder = Holder::Array(ArrayId(7));
    assert_eq!(taken(bench.create_array(named(8))), holder);
    assert_eq!(taken(bench.try_create(Some("fit"), small())), holder);
    bench.report(
        1,
        &[(
            bench.member(element(7, 1), 0),
            exited(bench.member(element(7, 1), 0), 0),
        )],
    );
    assert_eq!(
        taken(bench.try_create(Some("fit"), small())),
        holder,
        "one still lives"
    );
    bench.obey(|member| exited(member, 0));
    assert!(bench.codes().contains(&"array.ended"));
    assert!(matches!(
        bench.try_create(Some("fit"), small()),
        Answer::Created { .. }
    ));
    let Answer::Refused { refusal } = bench.create_array(named(8)) else {
        panic!("the session has it")
    };
    assert!(matches!(
        refusal,
        Refusal::NameTaken {
            holder: Holder::Session(_),
            ..
        }
    ));
}

#[test]
fn a_throttle_holds_elements_back_and_can_be_changed() {
    let mut bench = Bench::new();
    let mut request = array_request(7, 6, small());
    request.record.throttle = Some(2);
    bench.create_array(request);
    assert_eq!(bench.indices(7, "placed"), [1, 2]);
    bench.obey(|_| running());
    assert_eq!(bench.indices(7, "running"), [1, 2]);
    // As one ends, the next begins; also for a new leader.
    bench.report(
        1,
        &[
            (
                bench.member(element(7, 1), 0),
                exited(bench.member(element(7, 1), 0), 0),
            ),
            (bench.member(element(7, 2), 0), running()),
        ],
    );
    assert_eq!(
        (bench.indices(7, "running"), bench.indices(7, "placed")),
        (vec![2], vec![3])
    );
    bench.restart();
    bench.connect(1);
    assert_eq!(bench.indices(7, "pending"), [4, 5, 6]);
    bench.throttle(7, Some(1));
    bench.obey(|_| running());
    assert_eq!(bench.indices(7, "running"), [2, 3], "what is placed stays");
    bench.report(
        1,
        &[
            (
                bench.member(element(7, 2), 0),
                exited(bench.member(element(7, 2), 0), 0),
            ),
            (bench.member(element(7, 3), 0), running()),
        ],
    );
    assert_eq!(
        bench.indices(7, "pending"),
        [4, 5, 6],
        "and nothing comes until it is below"
    );
    bench.throttle(7, None);
    assert_eq!(bench.indices(7, "pending"), [] as [u32; 0]);
    // The control: without a throttle all of them are placed at once.
    let mut bench = Bench::new();
    bench.create_array(array_request(7, 6, small()));
    assert_eq!(bench.indices(7, "placed").len(), 6);
}

#[test]
fn a_throttled_array_does_not_close_the_pool_to_others() {
    let mut bench = Bench::new();
    let mut request = array_request(7, 3, small());
    request.record.throttle = Some(1);
    bench.create_array(request);
    bench.obey(|_| running());
    bench.pass(scheduler::STARVATION_MS + 60_000);
    let other = bench.create(small());
    assert_eq!(bench.word(other), "placed");
}

#[test]
fn an_array_is_stopped_and_removed_in_one_step() {
    let mut bench = Bench::new();
    let mut request = array_request(7, 5, small());
    request.record.throttle = Some(2);
    bench.create_array(request);
    bench.obey(|_| running());
    let accepted = Answer::ArrayAccepted { array: ArrayId(7) };
    assert_eq!(bench.stop_array(7), accepted);
    assert_eq!(bench.indices(7, "ended"), [3, 4, 5], "those that never ran");
    assert!(
        bench
            .outcome(element(7, 4))
            .starts_with("cancelled: cancelled by ada")
    );
    assert_eq!(bench.indices(7, "stopping"), [1, 2]);
    bench.obey(|_| running());
    assert_eq!(bench.indices(7, "ended").len(), 5);
    let refusal = Refusal::ArrayHasEnded { array: ArrayId(7) };
    assert_eq!(bench.stop_array(7), Answer::Refused { refusal });
    assert_eq!(bench.remove_array(7), accepted);
    bench.obey(|_| running());
    assert!(bench.view.sessions.is_empty());
    assert!(
        bench.site.array(ArrayId(7)).is_none(),
        "it goes with its last element"
    );
    assert_eq!(bench.view.arrays().count(), 0);
    assert!(bench.codes().contains(&"array.removed"));
    let refusal = Refusal::NoSuchArray { array: ArrayId(7) };
    assert_eq!(bench.remove_array(7), Answer::Refused { refusal });
}

#[test]
fn more_than_may_live_are_refused_as_a_whole() {
    let mut bench = Bench::empty();
    let limit = u32::try_from(LIVING_LIMIT).expect("it is small");
    let Answer::Refused { refusal } = bench.create_array(array_request(7, limit + 1, small()))
    else {
        panic!("too many")
    };
    assert_eq!(
        refusal,
        Refusal::SiteFull {
            limit: LIVING_LIMIT,
            living: 0,
            asked: LIVING_LIMIT + 1
        }
    );
    assert!(bench.view.sessions.is_empty());
}

#[test]
fn an_element_is_told_what_it_is() {
    let mut bench = Bench::new();
    bench.create_array(array_request(7, 2, small()));
    let told = &bench.told[&domain::NodeId(1)].members;
    let second = told
        .iter()
        .find(|member| member.id.session == element(7, 2));
    let spec = &second.expect("it is wanted").spec;
    assert_eq!((spec.array_index, spec.array_size), (Some(2), Some(2)));
    assert_eq!(spec.shown_name(), "train.2");
}

#[test]
fn that_an_array_was_removed_is_told_once_also_by_a_leader_that_comes_after() {
    let removed = |bench: &Bench| {
        let codes = bench.codes();
        let told = codes.iter().filter(|code| **code == "array.removed");
        told.count()
    };
    for (restarts, whole, expected) in [(false, true, 1), (true, true, 1), (false, false, 0)] {
        let mut bench = Bench::new();
        bench.create_array(array_request(7, 3, small()));
        bench.obey(|_| running());
        if whole {
            bench.remove_array(7);
        } else {
            (1..=3).for_each(|index| bench.remove(element(7, index)));
        }
        if restarts {
            bench.restart();
            bench.connect(1);
        }
        assert_eq!(removed(&bench), 0, "its node has it yet");
        bench.obey(|_| running());
        assert!(bench.site.array(ArrayId(7)).is_none());
        assert_eq!(removed(&bench), expected, "{restarts} {whole}");
    }
}
