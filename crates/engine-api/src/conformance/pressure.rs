//! What a container waits for is told.

use super::bench::{Bench, ROUND_MS, ROUNDS, broken};
use super::{Plan, Verdict, Violation, Work};
use crate::container::ContainerSpec;
use domain::Pressure;

/// So much longer, at least, waits one that may use a tenth of a CPU than one that sleeps.
const TIMES: u64 = 5;
/// It is told once it has waited so long, in microseconds.
const WAITED_MICROS: u64 = 500_000;

pub(super) async fn what_is_waited_for_is_told(bench: &Bench<'_>) -> Result<Verdict, Violation> {
    const ROW: &str = "pressure";
    for row in ["limit.cpu", ROW] {
        if !bench.has(row).await? {
            return Ok(Verdict::NotSupported { row });
        }
    }
    // The control: it wants nothing.
    let idle = bench.start(&bench.plan(0, Work::Sleep)).await?;
    let tenth = Plan {
        cpu: 1_000,
        ..bench.plan(1, Work::Spin)
    };
    let waiting = bench.start(&tenth).await?;
    let mut seen = None;
    for _ in 0..ROUNDS {
        let told = (
            pressure(bench, &waiting).await?,
            pressure(bench, &idle).await?,
        );
        let (waits, idles) = (told.0.cpu, told.1.cpu);
        let far_more = waits.total_micros > WAITED_MICROS.max(TIMES * idles.total_micros);
        if far_more && waits.is_noticeable() && waits.recent_hundredths > idles.recent_hundredths {
            return Ok(Verdict::Passed);
        }
        seen = Some(told);
        bench.harness.advance(ROUND_MS).await;
    }
    broken(
        "one that may use little of a CPU waits for more, and one that sleeps does not",
        &seen,
    )
}

async fn pressure(bench: &Bench<'_>, container: &ContainerSpec) -> Result<Pressure, Violation> {
    let usage = bench.engine().usage(container.member).await?;
    match usage.pressure {
        Some(pressure) => Ok(pressure),
        None => broken("an engine with the row tells it", &usage),
    }
}
