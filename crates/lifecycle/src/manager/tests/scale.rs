//! An array of the largest size through a whole life, without the bench's checks after each step.
//! The times are printed for whoever looks, and never judged.

use super::arrays::{array_request, element};
use super::bench::{Bench, MIB, exited, order, spec};
use crate::manager::{Event, EventKind, RequestToken};
use domain::{ARRAY_LIMIT, ArrayId, MemberId, MemberState, SessionSpec, Slots};
use node_api::{Report, ReportedMember};
use std::time::Instant;

/// Steps that are measured with everything else pending.
const STEPS: u32 = 200;

fn step(bench: &mut Bench, kind: EventKind) -> (crate::manager::Effects, f64) {
    let now = bench.now;
    let started = Instant::now();
    let effects = bench.site.step(Event { now, kind });
    (effects, started.elapsed().as_secs_f64() * 1_000.0)
}

fn report(bench: &Bench, sequence: u64, member: MemberId, state: MemberState) -> EventKind {
    let row = bench.site.row();
    let node = domain::NodeId(1);
    let generation = bench.site.nodes().map(|node| node.generation).max();
    let members = vec![ReportedMember {
        id: member,
        state,
        pause: domain::MemberPause::Off,
        unclaimed: false,
        spec: None,
    }];
    let report = Report {
        node,
        sequence,
        incarnation: row.incarnation,
        epoch: row.epoch,
        // It has obeyed nothing newer than the first set, so absence tells nothing.
        generation: generation.unwrap_or(0).min(1),
        members,
        settled: vec![],
    };
    EventKind::Report {
        report: Box::new(report),
    }
}

#[test]
fn ten_thousand_elements_are_made_run_and_stopped() {
    let mut bench = Bench::new();
    let size = u32::try_from(ARRAY_LIMIT).expect("it is small");
    let slots = Slots::of(4_000, 10 * MIB);
    let mut request = array_request(7, size, SessionSpec { slots, ..spec() });
    request.record.throttle = Some(4);
    let (token, request) = (RequestToken(1), Box::new(request));
    let (effects, made) = step(&mut bench, EventKind::CreateArray { token, request });
    assert!(effects.rows.len() > ARRAY_LIMIT, "a row for each");
    let mut slowest: f64 = 0.0;
    let mut sum = 0.0;
    for index in 1..=STEPS {
        let session = element(7, index);
        let record = bench.site.session(session).expect("it is there");
        let member = record.members.first().expect("it is placed, in order").id;
        let state = exited(member, 0);
        let kind = report(&bench, u64::from(index), member, state);
        let (_, took) = step(&mut bench, kind);
        slowest = slowest.max(took);
        sum += took;
    }
    let (_, tick) = step(&mut bench, EventKind::Tick);
    let order = order("ada");
    let array = ArrayId(7);
    let token = RequestToken(2);
    let (effects, stopped) = step(
        &mut bench,
        EventKind::StopArray {
            token,
            array,
            order,
        },
    );
    assert!(
        effects.rows.len() > 2 * (ARRAY_LIMIT - 300),
        "each end is told"
    );
    let living = bench.site.elements(array);
    let living = living.filter(|record| record.state.is_living()).count();
    assert_eq!(living, 4, "those that a node has");
    println!(
        "made {made:.1} ms; a step that ends one and places one: {:.2} ms, at most {slowest:.2} ms; \
         a tick {tick:.2} ms; stopped {stopped:.1} ms",
        sum / f64::from(STEPS)
    );
}
