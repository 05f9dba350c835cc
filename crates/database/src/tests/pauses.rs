//! Pauses in rows.

use super::Place;
use super::sample::{commit, put, running};
use domain::{MemberPause, PauseOrder, SessionState, Timestamp};

pub(crate) fn a_pause_comes_back_with_what_nodes_told_of_it(place: &dyn Place) {
    let mut store = place.open();
    let mut session = running(1);
    let reason = "too many forks".to_owned();
    let order = PauseOrder {
        by: "ann".to_owned(),
        at: Timestamp(7),
    };
    for (pause, told) in [
        (Some(order.clone()), MemberPause::Off),
        (Some(order.clone()), MemberPause::Failed { reason }),
        (Some(order), MemberPause::On),
        (None, MemberPause::On),
        (None, MemberPause::Off),
    ] {
        session.pause = pause;
        session.members[0].pause = told;
        commit(&mut store, put(session.clone()));
        let found = store.session(session.id).expect("read");
        assert_eq!(found.as_ref(), Some(&session));
    }
    assert_eq!(session.state, SessionState::Running);
}
