//! What of a container's files is shared with others, and whose it is.

use super::bench::{Bench, ensure};
use super::{MadeInMount, Plan, Verdict, Violation, Work};
use domain::{ExitCause, ExitHow};

pub(super) async fn layers_are_one_root_with_its_own_changes(
    bench: &Bench<'_>,
) -> Result<Verdict, Violation> {
    let row = "root.layers";
    if !bench.has(row).await? {
        return Ok(Verdict::NotSupported { row });
    }
    // The second has the same layers: the first one's changes are not in them.
    for number in 0..2 {
        let plan = Plan {
            read_only: false,
            ..bench.plan(number, Work::UseLayers)
        };
        let (container, _) = bench.run(&plan).await?;
        let text = bench.text(&container).await;
        ensure(
            "the upper hides the lower, and can be changed",
            text == Work::LAYERED,
            &(number, text),
        )?;
    }
    Ok(Verdict::Passed)
}

pub(super) async fn a_users_directory_can_be_used(bench: &Bench<'_>) -> Result<Verdict, Violation> {
    let row = "mount.user";
    if !bench.has(row).await? {
        return Ok(Verdict::NotSupported { row });
    }
    let (container, _) = bench.run(&bench.plan(0, Work::UseMount)).await?;
    let text = bench.text(&container).await;
    ensure(
        "what only the user may read can be read",
        text == Work::MOUNTED.1,
        &text,
    )?;
    let made = bench.harness.made_in_mount(&container).await;
    let expect = MadeInMount {
        text: Work::MADE.1.to_owned(),
        is_users: true,
    };
    ensure(
        "a new file is there and the user's",
        made == Some(expect),
        &made,
    )?;
    Ok(Verdict::Passed)
}

/// Of the file system that is filled.
const DISK_BYTES: u64 = 16 << 20;

pub(super) async fn a_disk_of_its_own_is_full_when_it_is_full(
    bench: &Bench<'_>,
) -> Result<Verdict, Violation> {
    let row = "disk.own";
    if !bench.has(row).await? {
        return Ok(Verdict::NotSupported { row });
    }
    let plan = Plan {
        disk_bytes: Some(DISK_BYTES),
        ..bench.plan(0, Work::Fill)
    };
    let (container, record) = bench.run(&plan).await?;
    let own = record.how == ExitHow::Exited { code: 0 } && record.cause == ExitCause::Own;
    ensure("its command goes on to its own end", own, &record)?;
    let text = bench.text(&container).await;
    let (filled, files) = told(&text);
    ensure("it was full of bytes", filled == "full", &text)?;
    ensure("it was full of files", files < Work::FILES, &text)?;
    // What is kept after the end is kept there, too.
    bench
        .engine()
        .remove(container.member, &container.directory)
        .await?;
    let kept = bench.harness.kept(&container).await;
    ensure("the working directory is kept", kept.work, &kept)?;
    // The control: on the node's file system there is room.
    let (container, _) = bench.run(&bench.plan(1, Work::Fill)).await?;
    let text = bench.text(&container).await;
    let all = told(&text) == ("filled", Work::FILES);
    ensure("without it there is room", all, &text)?;
    Ok(Verdict::Passed)
}

/// What [`Work::Fill`] wrote.
fn told(text: &str) -> (&str, u32) {
    let mut words = text.split_whitespace();
    let filled = words.next().unwrap_or_default();
    let files = words.next().and_then(|word| word.parse().ok());
    (filled, files.unwrap_or(u32::MAX))
}
