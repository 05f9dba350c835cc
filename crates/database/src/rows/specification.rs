//! What a user asked for, as it stands in the column `spec`.

use super::document::text;
use super::image::ImportedDocument;
use domain::{
    AskedLimits, CommandUser, ImportedImage, Mount, Network, NodeLostPolicy, SessionSpec, SlotName,
    Slots, Span, StdinMode, TerminalSize, UploadId,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A specification, form 1.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SpecDocument {
    image: String,
    command: Vec<String>,
    env: BTreeMap<String, String>,
    workdir: Option<String>,
    slots: BTreeMap<String, u64>,
    pids_limit: u32,
    time_limit_ms: Option<u64>,
    network: NetworkWord,
    mounts: Vec<MountDocument>,
    upload: Option<UploadText>,
    merge_output: bool,
    stdin: StdinWord,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    terminal: Option<TerminalDocument>,
    follower_expected: bool,
    members: u32,
    node_lost: NodeLostWord,
    best_effort: bool,
    #[serde(default)]
    disk_limit_bytes: Option<u64>,
    /// Absent in rows of before it was told: everything was held to be asked for then.
    #[serde(default)]
    asked: AskedDocument,
    #[serde(default)]
    imported: Option<ImportedDocument>,
    #[serde(default)]
    user: UserDocument,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedDocument {
    cpu: bool,
    memory: bool,
    pids: bool,
}

impl Default for AskedDocument {
    fn default() -> Self {
        AskedLimits::ALL.into()
    }
}

impl From<AskedLimits> for AskedDocument {
    fn from(asked: AskedLimits) -> Self {
        let AskedLimits { cpu, memory, pids } = asked;
        Self { cpu, memory, pids }
    }
}

impl From<AskedDocument> for AskedLimits {
    fn from(row: AskedDocument) -> Self {
        Self {
            cpu: row.cpu,
            memory: row.memory,
            pids: row.pids,
        }
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(tag = "user", rename_all = "snake_case", deny_unknown_fields)]
enum UserDocument {
    #[default]
    Ordinary,
    Named {
        name: String,
        #[serde(default)]
        asked: bool,
    },
    Root,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct UploadText(#[serde(with = "text")] UploadId);

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MountDocument {
    source: String,
    target: String,
    read_only: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TerminalDocument {
    columns: u16,
    rows: u16,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum NetworkWord {
    None,
    Host,
    Egress,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StdinWord {
    Null,
    Pipe,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum NodeLostWord {
    Wait,
    Reschedule,
}

impl From<&SessionSpec> for SpecDocument {
    fn from(spec: &SessionSpec) -> Self {
        let SessionSpec {
            image,
            imported,
            user,
            command,
            env,
            workdir,
            slots,
            pids_limit,
            time_limit,
            network,
            mounts,
            upload,
            merge_output,
            stdin,
            terminal,
            follower_expected,
            members,
            node_lost,
            best_effort,
            asked,
            disk_limit,
        } = spec.clone();
        Self {
            image,
            command,
            env,
            workdir,
            slots: write_slots(&slots),
            pids_limit,
            time_limit_ms: time_limit.map(|limit| limit.0),
            network: match network {
                Network::None => NetworkWord::None,
                Network::Host => NetworkWord::Host,
                Network::Egress => NetworkWord::Egress,
            },
            mounts: mounts.into_iter().map(MountDocument::from).collect(),
            upload: upload.map(UploadText),
            merge_output,
            stdin: match stdin {
                StdinMode::Null => StdinWord::Null,
                StdinMode::Pipe => StdinWord::Pipe,
            },
            terminal: terminal.map(|size| TerminalDocument {
                columns: size.columns,
                rows: size.rows,
            }),
            follower_expected,
            members,
            node_lost: match node_lost {
                NodeLostPolicy::Wait => NodeLostWord::Wait,
                NodeLostPolicy::Reschedule => NodeLostWord::Reschedule,
            },
            best_effort,
            asked: asked.into(),
            disk_limit_bytes: disk_limit,
            imported: imported.map(|image| ImportedDocument {
                id: image.id,
                architecture: image.architecture,
            }),
            user: user.into(),
        }
    }
}

impl From<SpecDocument> for SessionSpec {
    fn from(row: SpecDocument) -> Self {
        Self {
            image: row.image,
            command: row.command,
            env: row.env,
            workdir: row.workdir,
            slots: read_slots(row.slots),
            pids_limit: row.pids_limit,
            time_limit: row.time_limit_ms.map(Span),
            network: match row.network {
                NetworkWord::None => Network::None,
                NetworkWord::Host => Network::Host,
                NetworkWord::Egress => Network::Egress,
            },
            mounts: row.mounts.into_iter().map(Mount::from).collect(),
            upload: row.upload.map(|upload| upload.0),
            merge_output: row.merge_output,
            stdin: match row.stdin {
                StdinWord::Null => StdinMode::Null,
                StdinWord::Pipe => StdinMode::Pipe,
            },
            terminal: row.terminal.map(|size| TerminalSize {
                columns: size.columns,
                rows: size.rows,
            }),
            follower_expected: row.follower_expected,
            members: row.members,
            node_lost: match row.node_lost {
                NodeLostWord::Wait => NodeLostPolicy::Wait,
                NodeLostWord::Reschedule => NodeLostPolicy::Reschedule,
            },
            best_effort: row.best_effort,
            asked: row.asked.into(),
            disk_limit: row.disk_limit_bytes,
            imported: row.imported.map(|image| ImportedImage {
                id: image.id,
                architecture: image.architecture,
            }),
            user: row.user.into(),
        }
    }
}

impl From<CommandUser> for UserDocument {
    fn from(user: CommandUser) -> Self {
        match user {
            CommandUser::Ordinary => Self::Ordinary,
            CommandUser::Named { name, asked } => Self::Named { name, asked },
            CommandUser::Root => Self::Root,
        }
    }
}

impl From<UserDocument> for CommandUser {
    fn from(row: UserDocument) -> Self {
        match row {
            UserDocument::Ordinary => Self::Ordinary,
            UserDocument::Named { name, asked } => Self::Named { name, asked },
            UserDocument::Root => Self::Root,
        }
    }
}

impl From<Mount> for MountDocument {
    fn from(mount: Mount) -> Self {
        let Mount {
            source,
            target,
            read_only,
        } = mount;
        Self {
            source,
            target,
            read_only,
        }
    }
}

impl From<MountDocument> for Mount {
    fn from(row: MountDocument) -> Self {
        Self {
            source: row.source,
            target: row.target,
            read_only: row.read_only,
        }
    }
}

pub(crate) fn write_slots(slots: &Slots) -> BTreeMap<String, u64> {
    slots
        .0
        .iter()
        .map(|(name, amount)| (name.0.clone(), *amount))
        .collect()
}

pub(crate) fn read_slots(slots: BTreeMap<String, u64>) -> Slots {
    Slots(
        slots
            .into_iter()
            .map(|(name, amount)| (SlotName(name), amount))
            .collect(),
    )
}
