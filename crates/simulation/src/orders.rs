//! Orders of users, as the manager takes them.

use crate::plan::Order;
use crate::users::USER;
use domain::{ArrayId, PauseOrder, Priority, SessionId, StopOrder, Timestamp};
use lifecycle::manager::{EventKind, PriorityChange, PriorityTarget, RequestToken};

pub(crate) fn order_of(grace_ms: u64, signal: i32) -> StopOrder {
    StopOrder {
        by: USER.to_owned(),
        signal,
        grace_ms,
        at: Timestamp(0),
    }
}

pub(crate) fn session_event(order: Order, session: SessionId, token: RequestToken) -> EventKind {
    let by = USER.to_owned();
    match order {
        Order::Kill => {
            let order = order_of(0, 9);
            EventKind::Stop {
                token,
                session,
                order,
            }
        }
        Order::Remove => {
            let order = order_of(3_000, 15);
            EventKind::Remove {
                token,
                session,
                order,
            }
        }
        Order::Pause => {
            let order = PauseOrder {
                by,
                at: Timestamp(0),
            };
            EventKind::Pause {
                token,
                session,
                order,
            }
        }
        Order::Resume => EventKind::Resume { token, session, by },
        Order::Prioritize(priority) => {
            priority_event(PriorityTarget::Session(session), priority, token)
        }
        Order::Rename => {
            let name = format!("renamed-{session}").to_lowercase();
            let name = name.parse().expect("a name");
            EventKind::Rename {
                token,
                session,
                name,
            }
        }
        _ => {
            let order = order_of(10_000, 15);
            EventKind::Stop {
                token,
                session,
                order,
            }
        }
    }
}

pub(crate) fn array_event(order: Order, array: ArrayId, token: RequestToken) -> EventKind {
    match order {
        Order::StopArray => EventKind::StopArray {
            token,
            array,
            order: order_of(5_000, 15),
        },
        Order::RemoveArray => EventKind::RemoveArray {
            token,
            array,
            order: order_of(5_000, 15),
        },
        Order::PrioritizeArray(priority) => {
            priority_event(PriorityTarget::Array(array), priority, token)
        }
        _ => EventKind::Throttle {
            token,
            array,
            throttle: Some(2),
        },
    }
}

fn priority_event(target: PriorityTarget, priority: Priority, token: RequestToken) -> EventKind {
    let asked = Box::new(PriorityChange {
        target,
        priority,
        by: USER.to_owned(),
    });
    EventKind::Prioritize { token, asked }
}
