//! tmp
use crate::site::{TestSite, caller, command};
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn perf() {
    let site = TestSite::new().await;
    for round in 0..4 {
    let start = std::time::Instant::now();
    let ada = caller("ada");
    let made = futures::future::join_all((0..500).map(|_| {
        let mut c = command(&["true"]); c.cpu = Some("0.01".into()); c.memory = Some("8m".into());
        site.service.create(&ada, c, None)
    })).await;
    let t1 = start.elapsed();
    for m in made { site.await_state(&m.expect("made").session.id, "ended").await; }
    println!("round {round}: created in {t1:?}, ended in {:?}", start.elapsed());
    }
    let start = std::time::Instant::now();
    let m = site.create(command(&["true"])).await;
    let t1 = start.elapsed();
    site.await_state(&m.id, "ended").await;
    println!("one: created {t1:?} ended {:?}", start.elapsed());
    site.close().await;
}
