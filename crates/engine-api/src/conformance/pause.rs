//! Standing still and going on.

use super::bench::{Bench, ROUND_MS, ROUNDS, broken, ensure};
use super::{Verdict, Violation, Work};
use crate::container::ContainerSpec;
use crate::engine::{EngineError, Pause};

const ROW: &str = "pause";
const SIGKILL: i32 = 9;
/// How long a paused container is watched.
const WATCH_MS: u32 = 1_000;
/// Looks at what comes after a pause: what was written before has arrived by then.
const SETTLE_ROUNDS: u32 = 100;
/// Lines that show that a container goes on.
const LINES: usize = 5;

/// Whether the engine lacks the row; it then says so when it is asked.
async fn is_lacking(bench: &Bench<'_>) -> Result<bool, Violation> {
    if bench.has(ROW).await? {
        return Ok(false);
    }
    let container = bench.start(&bench.plan(0, Work::Sleep)).await?;
    let refused = bench.engine().pause(container.member).await;
    let honest = matches!(refused, Err(EngineError::Unsupported { row: ROW }));
    ensure("what the engine lacks it refuses", honest, &refused)?;
    let found = bench.found(container.member).await?;
    let alive = found.is_some_and(|found| found.alive && found.pause == Pause::Never);
    ensure("nothing has happened to it", alive, &found)?;
    Ok(true)
}

async fn lines(bench: &Bench<'_>, container: &ContainerSpec) -> usize {
    let output = bench.harness.output(container).await;
    output.iter().filter(|byte| **byte == b'\n').count()
}

/// Waits until it has written more lines than `before`; how many then.
async fn writes_on(
    bench: &Bench<'_>,
    container: &ContainerSpec,
    before: usize,
) -> Result<usize, Violation> {
    for _ in 0..ROUNDS {
        let now = lines(bench, container).await;
        if now >= before + LINES {
            return Ok(now);
        }
        bench.harness.advance(ROUND_MS).await;
    }
    broken("what is not paused writes on", &"not after a minute")
}

/// Waits until what it had written before has arrived; how many lines that is.
async fn last_line(bench: &Bench<'_>, container: &ContainerSpec) -> Result<usize, Violation> {
    let mut before = lines(bench, container).await;
    for _ in 0..SETTLE_ROUNDS {
        bench.harness.advance(ROUND_MS * 5).await;
        let now = lines(bench, container).await;
        if now == before {
            return Ok(now);
        }
        before = now;
    }
    broken("a paused container stops writing", &"not after many looks")
}

pub(super) async fn a_paused_container_stands_still(
    bench: &Bench<'_>,
) -> Result<Verdict, Violation> {
    if is_lacking(bench).await? {
        return Ok(Verdict::NotSupported { row: ROW });
    }
    let paused = bench.start(&bench.plan(1, Work::Count)).await?;
    // The control beside it.
    let free = bench.start(&bench.plan(2, Work::Count)).await?;
    writes_on(bench, &paused, 0).await?;
    bench.engine().pause(paused.member).await?;
    let stood = last_line(bench, &paused).await?;
    let before = lines(bench, &free).await;
    bench.harness.advance(WATCH_MS).await;
    writes_on(bench, &free, before).await?;
    let now = lines(bench, &paused).await;
    ensure("it writes nothing", now == stood, &(stood, now))?;
    bench.engine().resume(paused.member).await?;
    writes_on(bench, &paused, stood).await?;
    Ok(Verdict::Passed)
}

pub(super) async fn a_pause_is_listed(bench: &Bench<'_>) -> Result<Verdict, Violation> {
    if is_lacking(bench).await? {
        return Ok(Verdict::NotSupported { row: ROW });
    }
    let container = bench.start(&bench.plan(1, Work::Count)).await?;
    let member = container.member;
    for (act, expected) in [
        (None, Pause::Never),
        (Some(true), Pause::Now),
        (Some(false), Pause::Over),
        (Some(true), Pause::Now),
    ] {
        match act {
            None => {}
            Some(true) => bench.engine().pause(member).await?,
            Some(false) => bench.engine().resume(member).await?,
        }
        let found = bench.found(member).await?;
        let told = found.is_some_and(|found| found.alive && found.pause == expected);
        ensure("the list tells it", told, &(expected, found))?;
    }
    Ok(Verdict::Passed)
}

pub(super) async fn both_may_be_repeated(bench: &Bench<'_>) -> Result<Verdict, Violation> {
    if is_lacking(bench).await? {
        return Ok(Verdict::NotSupported { row: ROW });
    }
    let container = bench.start(&bench.plan(1, Work::Count)).await?;
    let member = container.member;
    writes_on(bench, &container, 0).await?;
    bench.engine().resume(member).await?;
    for _ in 0..2 {
        bench.engine().pause(member).await?;
    }
    let stood = last_line(bench, &container).await?;
    for _ in 0..2 {
        bench.engine().resume(member).await?;
    }
    writes_on(bench, &container, stood).await?;
    let nobody = bench.member(2);
    bench.engine().resume(nobody).await?;
    let refused = bench.engine().pause(nobody).await;
    let absent = matches!(refused, Err(EngineError::Absent { member }) if member == nobody);
    ensure("nobody cannot be paused", absent, &refused)?;
    Ok(Verdict::Passed)
}

pub(super) async fn a_paused_container_is_killed(bench: &Bench<'_>) -> Result<Verdict, Violation> {
    if is_lacking(bench).await? {
        return Ok(Verdict::NotSupported { row: ROW });
    }
    let container = bench.start(&bench.plan(1, Work::Count)).await?;
    writes_on(bench, &container, 0).await?;
    bench.engine().pause(container.member).await?;
    bench.engine().signal(container.member, SIGKILL).await?;
    bench.gone(&container).await?;
    Ok(Verdict::Passed)
}

pub(super) async fn a_paused_container_is_removed(bench: &Bench<'_>) -> Result<Verdict, Violation> {
    if is_lacking(bench).await? {
        return Ok(Verdict::NotSupported { row: ROW });
    }
    let container = bench.start(&bench.plan(1, Work::Count)).await?;
    writes_on(bench, &container, 0).await?;
    bench.engine().pause(container.member).await?;
    bench
        .engine()
        .remove(container.member, &container.directory)
        .await?;
    let found = bench.found(container.member).await?;
    ensure("nothing of it is left", found.is_none(), &found)?;
    Ok(Verdict::Passed)
}
