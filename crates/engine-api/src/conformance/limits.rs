//! What a container may use, and what it is told to have used.

use super::bench::{Bench, ROUND_MS, ROUNDS, broken, ensure};
use super::{Plan, Verdict, Violation, Work};
use crate::engine::{StartError, Usage};
use domain::Capability;

/// How often busy containers are watched at most.
const WATCH_ROUNDS: u32 = 20;
/// How long they are watched each time.
const WATCH_MS: u32 = 1_500;

pub(super) async fn usage_is_told(bench: &Bench<'_>) -> Result<Verdict, Violation> {
    let container = bench.start(&bench.plan(0, Work::Sleep)).await?;
    for _ in 0..ROUNDS {
        let usage = bench.engine().usage(container.member).await?;
        // The guest and its command.
        if usage.pids >= 2 {
            let peak = usage.memory_peak_bytes >= usage.memory_bytes;
            ensure("the peak is not below what is used", peak, &usage)?;
            return Ok(Verdict::Passed);
        }
        bench.harness.advance(ROUND_MS).await;
    }
    broken("guest and command are counted", &"not after a minute")
}

/// The rows that every plan asks for.
const ASKED: &[&str] = &["limit.cpu", "limit.memory", "limit.pids", "network.none"];

pub(super) async fn what_cannot_be_enforced_is_refused(
    bench: &Bench<'_>,
) -> Result<Verdict, Violation> {
    let fingerprint = bench.engine().fingerprint().await?;
    let lacks = |row: &&&str| {
        matches!(
            fingerprint.capabilities.get(**row),
            Some(Capability::No { .. })
        )
    };
    let lacking: Vec<&str> = ASKED.iter().filter(lacks).copied().collect();
    let strict = Plan {
        best_effort: false,
        ..bench.plan(0, Work::Sleep)
    };
    let container = bench.prepare(&strict).await;
    let result = bench.engine().start(&container).await;
    if lacking.is_empty() {
        ensure(
            "an engine that has every row refuses nothing",
            result.is_ok(),
            &result,
        )?;
        return Ok(Verdict::Passed);
    }
    match &result {
        Err(StartError::NotEnforceable { row, reason }) => {
            ensure(
                "it names a row that it lacks",
                lacking.contains(row),
                &result,
            )?;
            ensure("it says why", !reason.is_empty(), &result)?;
        }
        Ok(_) | Err(_) => {
            return broken("a limit that cannot be enforced is refused", &result);
        }
    }
    let found = bench.found(container.member).await?;
    ensure("nothing of it is left", found.is_none(), &found)?;
    bench.start(&bench.plan(1, Work::Sleep)).await?;
    Ok(Verdict::Passed)
}

pub(super) async fn cpu_time_is_limited(bench: &Bench<'_>) -> Result<Verdict, Violation> {
    const ROW: &str = "limit.cpu";
    if !bench.has(ROW).await? {
        return Ok(Verdict::NotSupported { row: ROW });
    }
    // The control: with a whole CPU it uses far more, in the same time beside the other.
    let free = bench.start(&bench.plan(0, Work::Spin)).await?;
    let tenth = Plan {
        cpu: 1_000,
        ..bench.plan(1, Work::Spin)
    };
    let limited = bench.start(&tenth).await?;
    // A machine that is busy gives neither of them what it may have: then both are watched again.
    // Without a limit the two would be alike in every round.
    let mut seen = Vec::new();
    for _ in 0..WATCH_ROUNDS {
        let (before_free, before) = (usage(bench, &free).await?, usage(bench, &limited).await?);
        bench.harness.advance(WATCH_MS).await;
        let (after_free, after) = (usage(bench, &free).await?, usage(bench, &limited).await?);
        let used = after.cpu_micros.saturating_sub(before.cpu_micros);
        let used_free = after_free.cpu_micros.saturating_sub(before_free.cpu_micros);
        // A tenth of the time, and one period of the quota that had begun before.
        let allowed = u64::from(WATCH_MS) * 1_000 / 10 + 100_000;
        if used <= allowed && used_free > 2 * used {
            return Ok(Verdict::Passed);
        }
        seen.push((used, used_free));
    }
    broken(
        "it uses no more than its share, and without the limit it would",
        &seen,
    )
}

async fn usage(
    bench: &Bench<'_>,
    container: &crate::container::ContainerSpec,
) -> Result<Usage, Violation> {
    Ok(bench.engine().usage(container.member).await?)
}

pub(super) async fn memory_is_limited(bench: &Bench<'_>) -> Result<Verdict, Violation> {
    for row in ["limit.memory", "oom.evidence"] {
        if !bench.has(row).await? {
            return Ok(Verdict::NotSupported { row });
        }
    }
    let plan = Plan {
        memory_bytes: 24 << 20,
        ..bench.plan(0, Work::Devour)
    };
    let (container, record) = bench.run(&plan).await?;
    let report = bench
        .engine()
        .remove(container.member, &container.directory)
        .await?;
    let Some(evidence) = report.out_of_memory.or(record.out_of_memory) else {
        return broken("the kill is recognised", &record.how);
    };
    ensure("a kill is counted", evidence.kills > 0, &evidence)?;
    ensure(
        "the limit is told",
        evidence.limit_bytes == plan.memory_bytes,
        &evidence,
    )?;
    let peak = evidence
        .peak_bytes
        .is_none_or(|peak| peak <= plan.memory_bytes);
    ensure("the peak is within the limit", peak, &evidence)?;
    Ok(Verdict::Passed)
}

pub(super) async fn processes_are_limited(bench: &Bench<'_>) -> Result<Verdict, Violation> {
    const ROW: &str = "limit.pids";
    if !bench.has(ROW).await? {
        return Ok(Verdict::NotSupported { row: ROW });
    }
    let plan = Plan {
        pids: 20,
        ..bench.plan(0, Work::Multiply)
    };
    let (container, _) = bench.run(&plan).await?;
    let counted = count(bench, &container).await;
    ensure(
        "there were not more than allowed",
        counted > 0 && counted < 20,
        &counted,
    )?;
    // The control: with room for all of them there are all of them.
    let (container, _) = bench.run(&bench.plan(1, Work::Multiply)).await?;
    let counted = count(bench, &container).await;
    ensure(
        "without the limit there are more",
        counted == Work::PROCESSES,
        &counted,
    )?;
    Ok(Verdict::Passed)
}

/// The last number that [`Work::Multiply`] wrote.
async fn count(bench: &Bench<'_>, container: &crate::container::ContainerSpec) -> u32 {
    let text = bench.text(container).await;
    text.lines()
        .rev()
        .find_map(|line| line.trim().parse().ok())
        .unwrap_or(0)
}
