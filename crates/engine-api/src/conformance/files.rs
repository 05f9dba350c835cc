//! What of a container's files is shared with others, and whose it is.

use super::bench::{Bench, ensure};
use super::{MadeInMount, Plan, Verdict, Violation, Work};

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
