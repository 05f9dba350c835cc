//! What the engine and its launcher say to each other: MessagePack behind a length.

use crate::cpus::Share;
use crate::identity::Identity;
use crate::network::{UserWay, WayOut};
use domain::MemberId;
use engine_api::ContainerSpec;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, Read};
use std::path::PathBuf;

/// Largest message, in bytes: a configuration with a full environment is far below it.
pub(crate) const MESSAGE_LIMIT: usize = 16 << 20;
/// Bytes of the length.
pub(crate) const LENGTH_BYTES: usize = 4;

/// Something to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    /// Comes back in the answer.
    pub(crate) id: u64,
    /// What.
    pub(crate) order: Order,
}

/// What the launcher does.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Starts a container.
    Start(Box<Start>),
    /// Makes as much of a container as can be made before it is known whose it will be. What is only
    /// the member's (its directory, host name, socket and guest's configuration) means nothing.
    Prepare(Box<Start>),
    /// Tries whether containers can be made.
    Try {
        /// For whom.
        identity: Identity,
    },
    /// Tries whether a user's container can be connected.
    TryWayOut {
        /// For whom.
        identity: Identity,
        /// How.
        way: Box<UserWay>,
    },
    /// Removes a tree with files of lent ids.
    Remove {
        /// Which were lent.
        identity: Identity,
        /// The tree.
        path: PathBuf,
    },
}

/// Start a container.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    /// What to start.
    pub(crate) container: ContainerSpec,
    /// The groups it joins.
    pub(crate) groups: GroupPaths,
    /// Whose ids it has.
    pub(crate) identity: Identity,
    /// Its CPUs.
    pub(crate) share: Share,
    /// Where else to write who the guest is, if there are no groups to find it by.
    pub(crate) note: Option<PathBuf>,
    /// How it gets out, with the network `egress`.
    #[serde(default)]
    pub(crate) way_out: Option<WayOut>,
    /// The same without root, and where to note who keeps it.
    #[serde(default)]
    pub(crate) user_way: Option<(UserWay, PathBuf)>,
    /// It takes over what was prepared for the member of this name, who is nobody.
    #[serde(default)]
    pub(crate) prepared: Option<MemberId>,
}

/// Where a container's groups are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GroupPaths {
    /// `tasks` files of the version 1 groups.
    pub(crate) tasks: Vec<PathBuf>,
    /// The group in the version 2 hierarchy.
    pub(crate) unified: Option<PathBuf>,
    /// The file and the value that limit CPU time once the guest is ready: setting up is not the
    /// session's fault, and would take seconds at 1 % of a CPU.
    pub(crate) cpu_quota: Option<(PathBuf, u64)>,
    /// What limits its memory.
    pub(crate) limits_memory: bool,
    /// How the groups can be shown inside.
    pub(crate) shown: Option<ShownGroups>,
}

/// Hierarchies of control groups, as they are mounted inside: what is seen there is the
/// container's own group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ShownGroups {
    /// One for each of these directories, with its controllers.
    V1(Vec<(String, Vec<String>)>),
    /// One for all.
    V2,
}

/// The answer to one request.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Reply {
    /// Of which request.
    pub(crate) id: u64,
    /// What came of it.
    pub(crate) outcome: Outcome,
}

/// What came of a start.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// The guest was told *go*.
    Started,
    /// Somebody holds the member's lock.
    Locked,
    /// What was asked for besides a start is done.
    Done,
    /// What it was to take over is not there any more.
    NotPrepared,
    /// It failed; nothing runs.
    Failed(Failure),
}

/// Why a start failed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Failure {
    /// An act failed.
    Act {
        /// As an infinitive.
        act: String,
        /// What the kernel said.
        reason: String,
    },
    /// A bind's source cannot be shown.
    Bind {
        /// The source.
        path: String,
        /// Why.
        reason: String,
    },
}

impl Failure {
    /// A failed act with the words of an error.
    pub(crate) fn act(act: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Self::Act {
            act: act.into(),
            reason: reason.to_string(),
        }
    }
}

/// The bytes of a message, its length first.
pub(crate) fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; LENGTH_BYTES];
    rmp_serde::encode::write_named(&mut bytes, message).map_err(io::Error::other)?;
    let length = bytes.len() - LENGTH_BYTES;
    if length > MESSAGE_LIMIT {
        let text = format!("a message of {length} bytes is larger than {MESSAGE_LIMIT}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let length = u32::try_from(length).expect("below the limit");
    bytes[..LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

/// Takes one whole message from the front of `buffer`, if it is there.
pub(crate) fn take<T: DeserializeOwned>(buffer: &mut Vec<u8>) -> io::Result<Option<T>> {
    let Some(length) = buffer.first_chunk::<LENGTH_BYTES>() else {
        return Ok(None);
    };
    let end = LENGTH_BYTES + checked_length(*length)?;
    if buffer.len() < end {
        return Ok(None);
    }
    let message = rmp_serde::from_slice(&buffer[LENGTH_BYTES..end]).map_err(io::Error::other)?;
    buffer.drain(..end);
    Ok(Some(message))
}

/// Waits for one message.
pub(crate) fn receive<T: DeserializeOwned>(mut stream: impl Read) -> io::Result<T> {
    let mut length = [0; LENGTH_BYTES];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; checked_length(length)?];
    stream.read_exact(&mut bytes)?;
    rmp_serde::from_slice(&bytes).map_err(io::Error::other)
}

fn checked_length(bytes: [u8; LENGTH_BYTES]) -> io::Result<usize> {
    let length = usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(usize::MAX);
    if length > MESSAGE_LIMIT {
        let text = format!("a message of {length} bytes is larger than {MESSAGE_LIMIT}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::{Outcome, Reply, encode, receive, take};

    #[test]
    fn messages_are_cut_where_they_end() {
        let reply = |id| Reply {
            id,
            outcome: Outcome::Locked,
        };
        let mut bytes = encode(&reply(1)).expect("encoded");
        bytes.extend(encode(&reply(2)).expect("encoded"));
        let whole = bytes.clone();
        let mut partial = bytes[..3].to_vec();
        assert!(take::<Reply>(&mut partial).expect("not wrong").is_none());
        for id in [1, 2] {
            let reply = take::<Reply>(&mut bytes).expect("right").expect("whole");
            assert_eq!(reply.id, id);
        }
        assert!(bytes.is_empty());
        assert_eq!(receive::<Reply>(whole.as_slice()).expect("read").id, 1);
        assert!(receive::<Reply>(&[255; 8][..]).is_err(), "beyond the limit");
    }
}
