//! What went wrong with the network `egress` of sessions that live, as files in the engine's
//! directory tell: for whoever looks at the site, also while its daemon is down.

use super::site::{STATE_FILE, State, own_boot_id};
use domain::MemberId;
use process::ProcessIdentity;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The ending of the file that tells who keeps a member's network.
pub(crate) const KEEPER_NOTE: &str = "network";
/// Notes that are looked at, at most.
const NOTES_LIMIT: usize = 100_000;
/// Longest note that is read, in bytes.
const NOTE_LIMIT: u64 = 16 << 10;

/// What is noted of the keeper of a container's network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeeperNote {
    /// Who it is.
    #[serde(flatten)]
    pub(crate) keeper: ProcessIdentity,
    /// Why it gave up while its container lived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ended: Option<String>,
}

/// Something that went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkTrouble {
    /// A member has no network any more, and gets none.
    Gone {
        /// Which.
        member: MemberId,
        /// Why.
        reason: String,
    },
    /// Somebody else changed the site's rules; they were made anew.
    Mended {
        /// How often, since there were sessions that needed them.
        times: u32,
        /// When last, in seconds since 1970.
        last_at_s: u64,
    },
    /// Somebody else changed the site's rules, and they could not be made anew: sessions reach what
    /// they must not.
    NotMended {
        /// Why.
        reason: String,
    },
}

/// What is wrong, or was since sessions with the network `egress` began, by the files in
/// `directory`, which is [`crate::SandboxSettings::state_directory`].
pub fn network_troubles(directory: &Path) -> Vec<NetworkTrouble> {
    let mut troubles = Vec::new();
    if let Some(state) = State::read(&directory.join(STATE_FILE)) {
        if state.mended > 0 {
            troubles.push(NetworkTrouble::Mended {
                times: state.mended,
                last_at_s: state.mended_at_s,
            });
        }
        let reason = state.mend_failed;
        troubles.extend(reason.map(|reason| NetworkTrouble::NotMended { reason }));
    }
    let boot = own_boot_id();
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    for entry in entries.flatten().take(NOTES_LIMIT) {
        let name = entry.file_name();
        let member = name.to_str().and_then(|name| name.rsplit_once('.'));
        let Some((member, KEEPER_NOTE)) = member else {
            continue;
        };
        let (Ok(member), Some(note)) = (member.parse(), read::<KeeperNote>(&entry.path())) else {
            continue;
        };
        if note.keeper.boot_id != boot {
            // Nothing of another boot lives.
            continue;
        }
        let alive = note.keeper.is_alive().unwrap_or(true);
        let gone = (!alive).then(|| "the process that kept it was ended".to_owned());
        if let Some(reason) = note.ended.or(gone) {
            troubles.push(NetworkTrouble::Gone { member, reason });
        }
    }
    troubles
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    let size = std::fs::metadata(path).ok()?.len();
    let bytes = (size <= NOTE_LIMIT).then(|| std::fs::read(path).ok())??;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::{KeeperNote, NetworkTrouble, network_troubles};
    use process::ProcessIdentity;
    use std::fs;

    #[test]
    fn notes_of_the_dead_and_of_those_who_gave_up_are_told() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        let own = i32::try_from(std::process::id()).expect("a pid");
        let own = ProcessIdentity::of(own).expect("read").expect("there");
        let dead = ProcessIdentity {
            start_time: own.start_time + 1,
            ..own.clone()
        };
        let note = |keeper: &ProcessIdentity, ended: Option<&str>| {
            let note = KeeperNote {
                keeper: keeper.clone(),
                ended: ended.map(str::to_owned),
            };
            serde_json::to_vec(&note).expect("JSON")
        };
        fs::write(path("0k3v9w1x5zq2e.1.0.network"), note(&own, None)).expect("written");
        assert_eq!(network_troubles(directory.path()), []);
        fs::write(path("0k3v9w1x5zq2e.1.0.network"), note(&dead, None)).expect("written");
        fs::write(path("other.network"), "{").expect("written");
        let told = network_troubles(directory.path());
        assert!(
            matches!(told.as_slice(), [NetworkTrouble::Gone { .. }]),
            "{told:?}"
        );
        let gave_up = note(&own, Some("pasta ended"));
        // Who only wants to know who it is reads the same file.
        let who: ProcessIdentity = serde_json::from_slice(&gave_up).expect("an identity");
        assert_eq!(who, own);
        fs::write(path("0k3v9w1x5zq2e.1.0.network"), gave_up).expect("written");
        let state = |boot: &str| {
            format!(
                r#"{{"boot_id":"{boot}","range":"10.213.0.0/20","mended":2,"mended_at_s":7,
                "mend_failed":"no nft"}}"#
            )
        };
        fs::write(path("network.json"), state(&own.boot_id)).expect("written");
        let told = network_troubles(directory.path());
        let mended = NetworkTrouble::Mended {
            times: 2,
            last_at_s: 7,
        };
        assert_eq!(told[0], mended);
        let reason = "no nft".to_owned();
        assert_eq!(told[1], NetworkTrouble::NotMended { reason });
        let reason = "pasta ended".to_owned();
        let member = "0k3v9w1x5zq2e.1.0".parse().expect("a member");
        assert_eq!(told[2..], [NetworkTrouble::Gone { member, reason }]);
        // What was so before the machine was started anew is over.
        let former = ProcessIdentity {
            boot_id: "another".to_owned(),
            ..own.clone()
        };
        fs::write(path("network.json"), state("another")).expect("written");
        let of_former = note(&former, Some("pasta ended"));
        fs::write(path("0k3v9w1x5zq2e.1.0.network"), of_former).expect("written");
        assert_eq!(network_troubles(directory.path()), []);
    }
}
