//! How containers get out that have the network `egress`, and the end of what carries it.

use super::alive::Guest;
use super::footing::try_way_out;
use super::{Inner, LOCK_LIMIT, act, chain};
use crate::identity::Identity;
use crate::network::{KEEPER_NOTE, UserWay, WayOut};
use domain::{MemberId, Network};
use engine_api::{ContainerSpec, EngineError, StartError};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::spawn_blocking;

/// The row of the capability table.
const ROW: &str = "network.egress";
/// A keeper sees by itself that its container has ended: within this time, unless the machine is
/// very busy.
const BY_ITSELF: Duration = Duration::from_secs(2);

/// A container's way out: by root's devices, or by a program of the user.
#[derive(Debug, Default)]
pub(super) struct Ways {
    pub(super) root: Option<WayOut>,
    /// With the file in which its keeper is noted.
    pub(super) user: Option<(UserWay, PathBuf)>,
}

impl Inner {
    /// How the container gets out, if it does.
    pub(super) fn ways(
        &self,
        container: &ContainerSpec,
        identity: &Identity,
    ) -> Result<Ways, StartError> {
        if container.network != Network::Egress {
            return Ok(Ways::default());
        }
        let ways = if *identity == Identity::Range {
            // Ranges of user ids are apart, so their numbers are places that are mostly free.
            let place = container.uids.base / engine_api::UidRange::LENGTH;
            self.network.prepare(place).map(|way| Ways {
                root: Some(way),
                user: None,
            })
        } else {
            self.network.user_way().map(|way| Ways {
                root: None,
                user: Some((way, self.keeper_note(container.member))),
            })
        };
        ways.map_err(|error| StartError::NotEnforceable {
            row: ROW,
            reason: chain(&error),
        })
    }

    /// Where it is noted who keeps the network of a user's member.
    fn keeper_note(&self, member: MemberId) -> PathBuf {
        let name = format!("{member}.{KEEPER_NOTE}");
        self.settings.state_directory.join(name)
    }

    /// Waits for the end of the keeper of a container that has ended, and helps it to that if it
    /// takes long. `pasta` ends with it.
    pub(super) fn end_keeper(&self, member: MemberId) -> Result<(), EngineError> {
        let note = self.keeper_note(member);
        if let Some(keeper) = Guest::noted(&note)? {
            keeper.end_within(BY_ITSELF, LOCK_LIMIT);
        }
        match std::fs::remove_file(&note) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(act("remove the note of the network's keeper", error))
            }
            _ => Ok(()),
        }
    }
}

/// Why containers of this identity cannot be connected here, by connecting one that does nothing
/// else. Root's are not tried: what they need can be looked at.
pub(super) async fn users_obstacle(
    inner: &Arc<Inner>,
    identity: &Identity,
) -> Result<Option<String>, EngineError> {
    if *identity == Identity::Range {
        return Ok(None);
    }
    let asked = Arc::clone(inner);
    let way = spawn_blocking(move || asked.network.user_way()).await;
    match way.map_err(|error| act("finish a blocking call", error))? {
        Ok(way) => try_way_out(inner, identity, way).await.map(Result::err),
        Err(error) => Ok(Some(chain(&error))),
    }
}
