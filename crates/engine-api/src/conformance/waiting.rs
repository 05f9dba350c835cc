//! Waiting for the end of a guest.

use super::bench::{Bench, ROUND_MS, ROUNDS, broken, ensure};
use super::{Verdict, Violation, Work};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// A waker that only remembers that it was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

pub(super) async fn waiting_ends_with_the_guest(bench: &Bench<'_>) -> Result<Verdict, Violation> {
    let container = bench.start(&bench.plan(0, Work::Sleep)).await?;
    let mut waiting = bench.engine().wait(container.member, &container.directory);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut poll = || waiting.as_mut().poll(&mut Context::from_waker(&waker));
    // Polled more than once: a wake may come too early, a loss of one never.
    for _ in 0..3 {
        ensure(
            "waiting goes on while it lives",
            poll().is_pending(),
            &"it returned",
        )?;
        bench.harness.advance(ROUND_MS).await;
    }
    bench.engine().signal(container.member, 9).await?;
    for _ in 0..ROUNDS {
        if woken.0.swap(false, Ordering::SeqCst)
            && let Poll::Ready(result) = poll()
        {
            result?;
            bench.gone(&container).await?;
            return Ok(Verdict::Passed);
        }
        bench.harness.advance(ROUND_MS).await;
    }
    broken("who waits is woken at the end", &"not after a minute")
}

pub(super) async fn waiting_for_the_ended_returns_at_once(
    bench: &Bench<'_>,
) -> Result<Verdict, Violation> {
    let absent = bench.prepare(&bench.plan(1, Work::Sleep)).await;
    bench
        .engine()
        .wait(absent.member, &absent.directory)
        .await?;
    let (container, _) = bench.run(&bench.plan(0, Work::Nap)).await?;
    bench
        .engine()
        .wait(container.member, &container.directory)
        .await?;
    bench
        .engine()
        .remove(container.member, &container.directory)
        .await?;
    bench
        .engine()
        .wait(container.member, &container.directory)
        .await?;
    Ok(Verdict::Passed)
}
