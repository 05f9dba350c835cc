//! What a user asked for, as it stands in the column `spec`.

use super::document::text;
use super::image::ImportedDocument;
use domain::{
    AskedLimits, CommandUser, ImportedImage, Mount, Network, NodeLostPolicy, SessionSpec, SlotName,
    Slots, Span, StdinMode, TerminalSize, UploadId,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A specification, form 1. What nobody asked for, a limit or a mount, is left out: every row of a
/// session has one of these.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SpecDocument<'a> {
    image: Cow<'a, str>,
    command: Cow<'a, [String]>,
    #[serde(default, skip_serializing_if = "is_empty")]
    env: Cow<'a, BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    workdir: Option<Cow<'a, str>>,
    slots: SlotsDocument<'a>,
    pids_limit: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time_limit_ms: Option<u64>,
    network: NetworkWord,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    mounts: Vec<MountDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    upload: Option<UploadText>,
    #[serde(default, skip_serializing_if = "is_false")]
    merge_output: bool,
    stdin: StdinWord,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    terminal: Option<TerminalDocument>,
    #[serde(default, skip_serializing_if = "is_false")]
    follower_expected: bool,
    members: u32,
    node_lost: NodeLostWord,
    #[serde(default, skip_serializing_if = "is_false")]
    best_effort: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    disk_limit_bytes: Option<u64>,
    /// Absent in rows of before it was told: everything was held to be asked for then.
    #[serde(default)]
    asked: AskedDocument,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    imported: Option<ImportedDocument>,
    #[serde(default, skip_serializing_if = "UserDocument::is_ordinary")]
    user: UserDocument,
}

fn is_empty(env: &BTreeMap<String, String>) -> bool {
    env.is_empty()
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// Amounts by the names of their slots.
#[derive(Debug)]
pub(crate) struct SlotsDocument<'a>(Cow<'a, Slots>);

impl Serialize for SlotsDocument<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_map(self.0.0.iter().map(|(name, amount)| (&name.0, amount)))
    }
}

impl<'de> Deserialize<'de> for SlotsDocument<'_> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let slots = BTreeMap::<String, u64>::deserialize(input)?.into_iter();
        let slots = slots.map(|(name, amount)| (SlotName(name), amount));
        Ok(Self(Cow::Owned(Slots(slots.collect()))))
    }
}

impl<'a> From<&'a Slots> for SlotsDocument<'a> {
    fn from(slots: &'a Slots) -> Self {
        Self(Cow::Borrowed(slots))
    }
}

impl From<SlotsDocument<'_>> for Slots {
    fn from(row: SlotsDocument<'_>) -> Self {
        row.0.into_owned()
    }
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

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

impl UserDocument {
    fn is_ordinary(&self) -> bool {
        *self == Self::Ordinary
    }
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

impl<'a> From<&'a SessionSpec> for SpecDocument<'a> {
    fn from(spec: &'a SessionSpec) -> Self {
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
        } = spec;
        Self {
            image: image.as_str().into(),
            command: command.as_slice().into(),
            env: Cow::Borrowed(env),
            workdir: workdir.as_deref().map(Cow::Borrowed),
            slots: slots.into(),
            pids_limit: *pids_limit,
            time_limit_ms: time_limit.map(|limit| limit.0),
            network: match network {
                Network::None => NetworkWord::None,
                Network::Host => NetworkWord::Host,
                Network::Egress => NetworkWord::Egress,
            },
            mounts: mounts.iter().cloned().map(MountDocument::from).collect(),
            upload: upload.map(UploadText),
            merge_output: *merge_output,
            stdin: match stdin {
                StdinMode::Null => StdinWord::Null,
                StdinMode::Pipe => StdinWord::Pipe,
            },
            terminal: terminal.map(|size| TerminalDocument {
                columns: size.columns,
                rows: size.rows,
            }),
            follower_expected: *follower_expected,
            members: *members,
            node_lost: match node_lost {
                NodeLostPolicy::Wait => NodeLostWord::Wait,
                NodeLostPolicy::Reschedule => NodeLostWord::Reschedule,
            },
            best_effort: *best_effort,
            asked: (*asked).into(),
            disk_limit_bytes: *disk_limit,
            imported: imported.as_ref().map(|image| ImportedDocument {
                id: image.id,
                architecture: image.architecture.clone(),
            }),
            user: user.clone().into(),
        }
    }
}

impl From<SpecDocument<'_>> for SessionSpec {
    fn from(row: SpecDocument<'_>) -> Self {
        Self {
            image: row.image.into_owned(),
            command: row.command.into_owned(),
            env: row.env.into_owned(),
            workdir: row.workdir.map(Cow::into_owned),
            slots: row.slots.into(),
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
