//! The id maps of a child, written by the launcher.

use crate::identity::{Command, Extent, Lent, extents};
use crate::message::Failure;
use engine_api::UidRange;
use std::path::Path;

/// Longest message of newuidmap that is told.
const WORDS_LIMIT: usize = 300;

/// A range of the node, by root.
pub(super) fn write_range(pid: i32, uids: UidRange) -> Result<(), Failure> {
    let map = format!("0 {} {}\n", uids.base, UidRange::LENGTH);
    write_maps(pid, &map, &map)
}

/// The user's own id at the command's place, and the lent ones around it.
pub(super) fn write_own(pid: i32, lent: Option<&Lent>, command: Command) -> Result<(), Failure> {
    let [users, groups] = extents(lent, command);
    match lent {
        Some(lent) => {
            run_program(&lent.uid_program, pid, &users)?;
            run_program(&lent.gid_program, pid, &groups)
        }
        None => {
            // The kernel wants it before an unprivileged map of groups: a process that could leave
            // a group might get what the group is kept from.
            std::fs::write(format!("/proc/{pid}/setgroups"), "deny")
                .map_err(|error| Failure::act("deny setting groups", error))?;
            write_maps(pid, &text(&users), &text(&groups))
        }
    }
}

fn text(extents: &[Extent]) -> String {
    let lines = extents
        .iter()
        .map(|extent| format!("{} {} {}\n", extent.inside, extent.outside, extent.count));
    lines.collect()
}

/// Writes both maps as they are.
pub(super) fn write_maps(pid: i32, uids: &str, gids: &str) -> Result<(), Failure> {
    for (name, map) in [("uid_map", uids), ("gid_map", gids)] {
        std::fs::write(format!("/proc/{pid}/{name}"), map)
            .map_err(|error| Failure::act(format!("write the {name}"), error))?;
    }
    Ok(())
}

/// newuidmap and newgidmap take the process and then three numbers for each extent.
fn run_program(program: &Path, pid: i32, extents: &[Extent]) -> Result<(), Failure> {
    let act = || format!("run {}", program.display());
    let mut command = process::command(program);
    command.env_clear().arg(pid.to_string());
    for extent in extents {
        let numbers = [extent.inside, extent.outside, extent.count];
        command.args(numbers.map(|number| number.to_string()));
    }
    let output = command
        .output()
        .map_err(|error| Failure::act(act(), error))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let words: String = words.trim().chars().take(WORDS_LIMIT).collect();
    let reason = if words.is_empty() {
        output.status.to_string()
    } else {
        words
    };
    Err(Failure::act(act(), reason))
}
