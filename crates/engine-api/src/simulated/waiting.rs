//! Waiting for the end of a simulated container.

use super::SimulatedEngine;
use domain::MemberId;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Completes when the guest of `member` is not alive.
pub(super) struct Waiting<'a> {
    pub(super) engine: &'a SimulatedEngine,
    pub(super) member: MemberId,
}

impl Future for Waiting<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.engine.state();
        if !state.is_alive(self.member) {
            return Poll::Ready(());
        }
        state.wake_at_end(self.member, context.waker());
        Poll::Pending
    }
}
