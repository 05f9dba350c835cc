//! What a start costs: a measurement to run by hand.

use super::bench::bench;
use std::time::{Duration, Instant};

const ROUNDS: u32 = 50;
/// What a user leaves between two commands, at least.
const ISOLATED: Duration = Duration::from_millis(60);

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a check: run it with --run-ignored only --no-capture"]
async fn price_of_a_start() {
    let Some(bench) = bench() else { return };
    for (name, pause) in [("back to back", Duration::ZERO), ("isolated", ISOLATED)] {
        let (mut start, mut run, mut removal) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let container = bench.container(round, "true");
            let _ = std::fs::remove_file(container.directory.join(engine_api::layout::GUEST));
            let began = Instant::now();
            bench.start(&container).await.expect("it starts");
            start.push(began.elapsed());
            let wait =
                engine_api::Engine::wait(&bench.sandbox, container.member, &container.directory);
            wait.await.expect("waited");
            run.push(began.elapsed());
            let began = Instant::now();
            bench.remove(&container).await;
            removal.push(began.elapsed());
            tokio::time::sleep(pause).await;
        }
        println!(
            "{name}: start {:?}, start to end of `sh -c true` {:?}, removal {:?}",
            median(start),
            median(run),
            median(removal)
        );
    }
}
