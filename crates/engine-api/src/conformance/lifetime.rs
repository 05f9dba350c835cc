//! Starting, listing, ending.

use super::bench::{Bench, ensure};
use super::{Verdict, Violation, Work};
use crate::capability::CAPABILITIES;
use domain::{ExitCause, ExitHow};

const SIGKILL: i32 = 9;
/// Containers that live side by side.
const SEVERAL: u32 = 5;

pub(super) async fn fingerprint_is_complete(bench: &Bench<'_>) -> Result<Verdict, Violation> {
    let fingerprint = bench.engine().fingerprint().await?;
    let rows = &fingerprint.capabilities;
    for row in CAPABILITIES {
        ensure("every row is there", rows.contains_key(row.name), &row.name)?;
    }
    ensure(
        "there is no other row",
        rows.len() == CAPABILITIES.len(),
        rows,
    )?;
    for (row, capability) in rows {
        if let domain::Capability::No { reason } = capability {
            ensure("a row that is not had says why", !reason.is_empty(), row)?;
        }
    }
    Ok(Verdict::Passed)
}

pub(super) async fn a_started_container_is_listed_alive(
    bench: &Bench<'_>,
) -> Result<Verdict, Violation> {
    let member = bench.member(0);
    let before = bench.found(member).await?;
    ensure(
        "what was never started is not listed",
        before.is_none(),
        &before,
    )?;
    let container = bench.prepare(&bench.plan(0, Work::Sleep)).await;
    bench.engine().start(&container).await?;
    let found = bench.found(member).await?;
    ensure(
        "it is listed alive",
        found.is_some_and(|found| found.alive),
        &found,
    )?;
    Ok(Verdict::Passed)
}

pub(super) async fn many_live_side_by_side(bench: &Bench<'_>) -> Result<Verdict, Violation> {
    for number in 0..SEVERAL {
        bench.start(&bench.plan(number, Work::Sleep)).await?;
    }
    for number in 0..SEVERAL {
        let found = bench.found(bench.member(number)).await?;
        ensure(
            "each is alive",
            found.is_some_and(|found| found.alive),
            &found,
        )?;
    }
    bench.engine().signal(bench.member(0), SIGKILL).await?;
    for number in 1..SEVERAL {
        let found = bench.found(bench.member(number)).await?;
        ensure(
            "the others live on",
            found.is_some_and(|found| found.alive),
            &found,
        )?;
    }
    Ok(Verdict::Passed)
}

pub(super) async fn starting_twice_is_starting_once(
    bench: &Bench<'_>,
) -> Result<Verdict, Violation> {
    let container = bench.start(&bench.plan(0, Work::Sleep)).await?;
    let again = bench.engine().start(&container).await?;
    ensure("the second start finds it running", again.already, &again)?;
    // `found` makes sure that it is listed once.
    let found = bench.found(container.member).await?;
    ensure(
        "it is alive",
        found.is_some_and(|found| found.alive),
        &found,
    )?;
    Ok(Verdict::Passed)
}

pub(super) async fn an_ended_member_is_not_run_again(
    bench: &Bench<'_>,
) -> Result<Verdict, Violation> {
    let (container, record) = bench.run(&bench.plan(0, Work::Print)).await?;
    for removed_before in [false, true] {
        if removed_before {
            bench
                .engine()
                .remove(container.member, &container.directory)
                .await?;
        }
        // Whether it is told as an error or as a success that changed nothing is the engine's
        // affair; that the command does not run again is not.
        let again = bench.engine().start(&container).await;
        let seen = (removed_before, &again);
        ensure(
            "it does not claim to have run",
            !matches!(&again, Ok(s) if !s.already),
            &seen,
        )?;
        bench.gone(&container).await?;
        let now = bench.harness.record(&container).await;
        ensure(
            "its record stays as it was",
            now.as_ref() == Some(&record),
            &now,
        )?;
    }
    Ok(Verdict::Passed)
}

pub(super) async fn the_exit_code_is_recorded(bench: &Bench<'_>) -> Result<Verdict, Violation> {
    for (number, code) in (0..).zip([0, 7, 255]) {
        let (container, record) = bench.run(&bench.plan(number, Work::Exit(code))).await?;
        ensure(
            "it is this member's",
            record.member == container.member,
            &record,
        )?;
        let how = ExitHow::Exited { code };
        ensure("it is the command's own code", record.how == how, &record)?;
        ensure(
            "it ended by itself",
            record.cause == ExitCause::Own,
            &record,
        )?;
        let ordered = record
            .started_at
            .is_some_and(|started| started <= record.ended_at);
        ensure("it started before it ended", ordered, &record)?;
    }
    Ok(Verdict::Passed)
}

pub(super) async fn output_is_recorded(bench: &Bench<'_>) -> Result<Verdict, Violation> {
    let (container, record) = bench.run(&bench.plan(0, Work::Print)).await?;
    let output = bench.harness.output(&container).await;
    ensure("every byte is there", output == Work::TEXT, &output)?;
    let counted = usize::try_from(record.stdout_bytes) == Ok(output.len());
    ensure(
        "the record counts them",
        counted && record.stderr_bytes == 0,
        &record,
    )?;
    Ok(Verdict::Passed)
}

pub(super) async fn kill_ends_the_container(bench: &Bench<'_>) -> Result<Verdict, Violation> {
    let container = bench.start(&bench.plan(0, Work::Sleep)).await?;
    bench.engine().signal(container.member, SIGKILL).await?;
    bench.gone(&container).await?;
    Ok(Verdict::Passed)
}

pub(super) async fn a_signal_to_nobody_is_success(bench: &Bench<'_>) -> Result<Verdict, Violation> {
    for signal in [15, SIGKILL] {
        bench.engine().signal(bench.member(0), signal).await?;
    }
    Ok(Verdict::Passed)
}

pub(super) async fn the_guest_outlives_the_agent(bench: &Bench<'_>) -> Result<Verdict, Violation> {
    let row = "guest.outlives-agent";
    if !bench.has(row).await? {
        return Ok(Verdict::NotSupported { row });
    }
    let napping = bench.prepare(&bench.plan(0, Work::Nap)).await;
    bench.harness.start_and_die(&napping).await;
    let record = bench.ended(&napping).await?;
    let own = record.how == ExitHow::Exited { code: 0 } && record.cause == ExitCause::Own;
    ensure("its command comes to its own end", own, &record)?;
    let sleeping = bench.prepare(&bench.plan(1, Work::Sleep)).await;
    bench.harness.start_and_die(&sleeping).await;
    let found = bench.found(sleeping.member).await?;
    ensure(
        "the next process finds it alive",
        found.is_some_and(|found| found.alive),
        &found,
    )?;
    let again = bench.engine().start(&sleeping).await?;
    ensure("and does not start it again", again.already, &again)?;
    bench.engine().signal(sleeping.member, SIGKILL).await?;
    bench.gone(&sleeping).await?;
    Ok(Verdict::Passed)
}
