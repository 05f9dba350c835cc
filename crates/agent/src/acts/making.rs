//! Making a member's directory.

use super::blocking;
use crate::clock;
use crate::directory::{FORMAT, Marker, MemberDirectory, MemberFile};
use crate::shared::Shared;
use domain::MemberId;
use lifecycle::agent::AgentEventKind;
use node_api::MemberSpec;
use std::sync::Arc;

pub(super) async fn make(
    shared: Arc<Shared>,
    member: MemberId,
    spec: Box<MemberSpec>,
    slot: u32,
    generation: u64,
) -> AgentEventKind {
    let file = MemberFile {
        format: FORMAT,
        member,
        spec: *spec,
        slot,
        generation,
        boot_id: shared.boot_id.clone(),
        made_at: clock::wall(),
    };
    let directory = shared.member(member);
    let uids = shared.uids(slot);
    let engine = Arc::clone(&shared.engine);
    let limit = file.spec.session.disk_limit;
    let context = Arc::clone(&shared);
    let making = move || {
        directory.make(&file, uids, &context.ahead, |aside| match limit {
            // Where there can be none, what it has on disk is measured.
            Some(bytes) => match engine.make_disk(aside, bytes)? {
                true => MemberDirectory::new(aside.to_path_buf()).mark(Marker::OwnDisk),
                false => Ok(()),
            },
            None => Ok(()),
        })
    };
    match blocking(making).await {
        Ok(()) => {
            process::crash_point("place.directory-made");
            AgentEventKind::DirectoryMade { member }
        }
        Err(reason) => {
            tracing::warn!(member.id = %member, "its directory could not be made: {reason}");
            AgentEventKind::DirectoryFailed { member, reason }
        }
    }
}
