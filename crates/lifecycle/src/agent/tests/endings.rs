//! What a record says of limits and of memory that ran out.

use super::super::{AgentEventKind, Ending};
use super::fake_node::{guests_record, id};
use super::{node_with, record};
use domain::{ExitCause, ExitRecord, LimitsReached, OomEvidence, Timestamp};

/// The record of a member whose guest told `guest`, and of which the agent found `agent`.
fn ended(guest: ExitRecord, agent: Ending) -> ExitRecord {
    let mut node = node_with(1);
    node.guest_ends(id(1), ExitCause::Own);
    node.running.clear();
    node.tell(AgentEventKind::Ended {
        member: id(1),
        ending: Box::new(Ending {
            record: Some(guest),
            ..agent
        }),
    });
    node.settle();
    record(&node, 1)
}

#[test]
fn its_file_systems_are_the_guests_to_tell_and_every_other_limit_the_agents() {
    let own = || guests_record(id(1), ExitCause::Own, Timestamp(5));
    let guest = ExitRecord {
        limits_reached: Some(Box::new(LimitsReached {
            pids_hits: 1,
            stdout_dropped_bytes: 2,
            stderr_dropped_bytes: 3,
            tmp_full_bytes: Some(4),
            shm_full_bytes: Some(5),
            files_incomplete: true,
        })),
        ..own()
    };
    let agent = Ending {
        limits_reached: LimitsReached {
            pids_hits: 10,
            stdout_dropped_bytes: 20,
            stderr_dropped_bytes: 30,
            tmp_full_bytes: Some(40),
            shm_full_bytes: Some(50),
            files_incomplete: false,
        },
        ..Ending::default()
    };
    let both = LimitsReached {
        tmp_full_bytes: Some(4),
        shm_full_bytes: Some(5),
        ..agent.limits_reached
    };
    assert_eq!(ended(guest, agent).limits_reached, Some(Box::new(both)));
    assert_eq!(ended(own(), Ending::default()).limits_reached, None);
}

#[test]
fn two_witnesses_of_the_same_kills_are_one() {
    let told = |kills, limit_bytes, peak_bytes, of_node| OomEvidence {
        kills,
        limit_bytes,
        peak_bytes,
        process: None,
        of_node,
    };
    for (guest, engine, both) in [
        (None, None, None),
        (None, Some(told(0, 8, Some(3), false)), None),
        (
            Some(told(0, 8, None, false)),
            Some(told(0, 8, None, false)),
            None,
        ),
        (
            Some(told(1, 8, None, true)),
            None,
            Some(told(1, 8, None, true)),
        ),
        (
            Some(told(2, 8, Some(3), false)),
            Some(told(1, 9, Some(9), true)),
            Some(told(2, 9, Some(9), false)),
        ),
        (
            Some(told(1, 9, Some(9), true)),
            Some(told(2, 8, None, false)),
            Some(told(2, 9, Some(9), false)),
        ),
        (
            Some(told(1, 8, None, true)),
            Some(told(1, 8, None, true)),
            Some(told(1, 8, None, true)),
        ),
    ] {
        let record = ExitRecord {
            out_of_memory: guest,
            ..guests_record(id(1), ExitCause::Own, Timestamp(5))
        };
        let agent = Ending {
            out_of_memory: engine,
            ..Ending::default()
        };
        assert_eq!(ended(record, agent).out_of_memory, both);
    }
}
