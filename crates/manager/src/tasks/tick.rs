//! Passes time on to the core: deadlines and retention are looked at with each tick.

use crate::leader::LeaderHandle;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// Time between two ticks; the core asks for at least one a second.
const TICK: Duration = Duration::from_millis(500);

pub(crate) async fn tick_for_ever(leader: LeaderHandle) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        leader.tick();
    }
}
