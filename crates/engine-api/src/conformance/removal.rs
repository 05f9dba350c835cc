//! Removing, and what is left.

use super::bench::{Bench, ensure};
use super::{Kept, Verdict, Violation, Work};
use crate::engine::{EngineError, RemoveReport};

pub(super) async fn removing_ends_the_living(bench: &Bench<'_>) -> Result<Verdict, Violation> {
    let container = bench.start(&bench.plan(0, Work::Sleep)).await?;
    bench
        .engine()
        .remove(container.member, &container.directory)
        .await?;
    let found = bench.found(container.member).await?;
    ensure("nothing is listed after", found.is_none(), &found)?;
    Ok(Verdict::Passed)
}

pub(super) async fn removing_twice_is_success(bench: &Bench<'_>) -> Result<Verdict, Violation> {
    let (container, _) = bench.run(&bench.plan(0, Work::Exit(0))).await?;
    for _ in 0..3 {
        bench
            .engine()
            .remove(container.member, &container.directory)
            .await?;
        let found = bench.found(container.member).await?;
        ensure("nothing is listed after", found.is_none(), &found)?;
    }
    Ok(Verdict::Passed)
}

pub(super) async fn removing_nothing_is_success(bench: &Bench<'_>) -> Result<Verdict, Violation> {
    let prepared = bench.prepare(&bench.plan(0, Work::Sleep)).await;
    let report = bench
        .engine()
        .remove(prepared.member, &prepared.directory)
        .await?;
    ensure(
        "there is nothing to tell",
        report == RemoveReport::default(),
        &report,
    )?;
    // Not even the directory needs to be there.
    let nowhere = prepared.directory.join("absent");
    bench.engine().remove(bench.member(1), &nowhere).await?;
    Ok(Verdict::Passed)
}

pub(super) async fn removing_keeps_what_is_the_agents(
    bench: &Bench<'_>,
) -> Result<Verdict, Violation> {
    let (container, record) = bench.run(&bench.plan(0, Work::Print)).await?;
    bench
        .engine()
        .remove(container.member, &container.directory)
        .await?;
    let kept = bench.harness.kept(&container).await;
    let all = Kept {
        work: true,
        logs: true,
        record: true,
    };
    ensure("all three are there", kept == all, &kept)?;
    let now = bench.harness.record(&container).await;
    ensure(
        "the record is as it was",
        now.as_ref() == Some(&record),
        &now,
    )?;
    let output = bench.harness.output(&container).await;
    ensure("the output is as it was", output == Work::TEXT, &output)?;
    Ok(Verdict::Passed)
}

pub(super) async fn usage_of_nothing_is_absent(bench: &Bench<'_>) -> Result<Verdict, Violation> {
    let member = bench.member(0);
    let usage = bench.engine().usage(member).await;
    let absent = matches!(usage, Err(EngineError::Absent { member: named }) if named == member);
    ensure("it is absent by its name", absent, &usage)?;
    let container = bench.start(&bench.plan(1, Work::Sleep)).await?;
    bench
        .engine()
        .remove(container.member, &container.directory)
        .await?;
    let usage = bench.engine().usage(container.member).await;
    let absent = matches!(usage, Err(EngineError::Absent { .. }));
    ensure("it is absent after its removal", absent, &usage)?;
    Ok(Verdict::Passed)
}
