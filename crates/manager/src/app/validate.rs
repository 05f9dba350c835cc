//! What a session may be asked to be, checked before anything is made.

use crate::app::convert::{kind_of, network_of};
use crate::app::image_settings::{who, whole_command, whole_env};
use crate::app::priority::check_priority;
use crate::app::problems::field;
use crate::app::processes::terminal_of;
use crate::manager::ManagerSettings;
use domain::amounts::{
    LEAST_CPU, LEAST_DISK, LEAST_MEMORY, MOST_DISK, WHOLE, parse_bytes, parse_decimal, show_bytes,
    show_decimal,
};
use domain::{
    AskedLimits, HOST_IMAGE, ImportedImage, InvalidName, NodeLostPolicy, Priority, SessionKind,
    SessionName, SessionSpec, Slots, Span, StdinMode, UploadId,
};
use lifecycle::manager::{RETRY_LIMIT, View};
use lifecycle::rows::ImageRecord;
use public_api::{CreateSession, KindView, Problem};
use std::collections::BTreeMap;

/// Most processes and threads of a member that does not say.
const DEFAULT_PIDS: u32 = 4_096;
/// Least: the command and the guest need some.
const LEAST_PIDS: u32 = 8;
/// The kernel's own limit.
const MOST_PIDS: u32 = 4_194_304;
/// Memory of a session that does not say, where a quarter of a node is not less.
const DEFAULT_MEMORY: u64 = 1 << 30;
/// Most bytes of a command and its environment; the kernel takes about two megabytes.
const COMMAND_LIMIT_BYTES: usize = 1 << 20;
/// Most variables.
const VARIABLE_LIMIT: usize = 1_000;
/// Longest name of a user or group.
const USER_LIMIT_BYTES: usize = 256;
/// Longest path that is taken.
pub(crate) const PATH_LIMIT_BYTES: usize = 4_096;
/// Longest running time that can be asked for: ten years.
const TIME_LIMIT_MS: u64 = 10 * 365 * 86_400_000;

/// What the site says where a request does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Defaults {
    memory_bytes: u64,
}

impl Defaults {
    /// By the smallest node, so that the default fits everywhere.
    pub(crate) fn of(view: &View) -> Self {
        let smallest = view.present_nodes().map(|node| node.offers.memory()).min();
        let quarter = smallest.map_or(DEFAULT_MEMORY, |bytes| bytes / 4);
        // Whole mebibytes: the number is shown to people.
        let whole = quarter >> 20 << 20;
        Self {
            memory_bytes: whole.clamp(LEAST_MEMORY, DEFAULT_MEMORY),
        }
    }
}

/// A request that has passed, but for its mounts and its upload, which need a look at the disk.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) name: Option<SessionName>,
    pub(crate) kind: SessionKind,
    pub(crate) spec: SessionSpec,
    pub(crate) priority: Priority,
    pub(crate) retry: u32,
}

/// Checks everything that can be told from the request and its image; `None` for `host`.
pub(crate) fn check(
    request: &CreateSession,
    settings: &ManagerSettings,
    defaults: Defaults,
    image: Option<&ImageRecord>,
) -> Result<Checked, Problem> {
    if request.retry > RETRY_LIMIT {
        let detail = format!("{} is more than {RETRY_LIMIT}", request.retry);
        return Err(field("retry", detail));
    }
    let own = image.map(|image| &image.manifest.settings);
    let command = whole_command(request, own)?;
    let env = whole_env(request, own);
    check_command(&command, &env)?;
    let name = request.name.as_deref().map(check_name).transpose()?;
    let images = own.and_then(|own| own.workdir.clone());
    let workdir = request.workdir.clone().or(images);
    if let Some(workdir) = &workdir {
        check_inner_path("workdir", workdir)?;
    }
    let network = request.network.map_or(settings.default_network, network_of);
    let terminal = request.terminal.map(terminal_of);
    // A terminal is input and both outputs.
    let stdin = if request.stdin || terminal.is_some() {
        StdinMode::Pipe
    } else {
        StdinMode::Null
    };
    Ok(Checked {
        name,
        priority: request
            .priority
            .map_or(Ok(Priority::USUAL), check_priority)?,
        retry: request.retry,
        kind: kind_of(request.kind.unwrap_or(KindView::Batch)),
        spec: SessionSpec {
            image: request
                .image
                .clone()
                .unwrap_or_else(|| HOST_IMAGE.to_owned()),
            imported: image.map(|image| ImportedImage {
                id: image.id,
                architecture: image.manifest.architecture.clone(),
            }),
            user: who(request, own)?,
            command,
            env,
            workdir,
            slots: check_slots(request, defaults)?,
            pids_limit: check_pids(request.pids)?,
            time_limit: request.time.as_deref().map(check_time).transpose()?,
            network,
            mounts: Vec::new(),
            upload: request.upload.as_deref().map(check_upload_id).transpose()?,
            merge_output: request.merge || terminal.is_some(),
            stdin,
            terminal,
            follower_expected: request.follower,
            members: 1,
            node_lost: NodeLostPolicy::Wait,
            best_effort: request.best_effort,
            asked: AskedLimits {
                cpu: request.cpu.is_some(),
                memory: request.memory.is_some(),
                pids: request.pids.is_some(),
            },
            disk_limit: request.disk.as_deref().map(check_disk).transpose()?,
        },
    })
}

fn check_name(name: &str) -> Result<SessionName, Problem> {
    name.parse().map_err(|error: InvalidName| {
        let problem = field("name", &error);
        match error {
            InvalidName::Characters { nearest, .. } => {
                problem.hint(format!("`--name {nearest}` would do"))
            }
            InvalidName::Empty | InvalidName::TooLong { .. } | InvalidName::LooksLikeId { .. } => {
                problem
            }
        }
    })
}

/// Checks a command with its variables, and returns how many bytes they have.
pub(crate) fn check_command(
    command: &[String],
    env: &BTreeMap<String, String>,
) -> Result<usize, Problem> {
    let bytes = check_words(command, env)?;
    if bytes > COMMAND_LIMIT_BYTES {
        let detail = format!(
            "the command and its variables have {bytes} bytes, more than {COMMAND_LIMIT_BYTES}"
        );
        return Err(field("command", detail).hint("put long data into a file and --upload it"));
    }
    Ok(bytes)
}

/// Checks the words and variables of any command; returns how many bytes they have.
pub(crate) fn check_words(
    command: &[String],
    env: &BTreeMap<String, String>,
) -> Result<usize, Problem> {
    if command.iter().any(|word| word.contains('\0')) {
        return Err(field("command", "a command cannot hold NUL characters"));
    }
    for (name, value) in env {
        let bad = |c: char| c == '=' || c.is_whitespace() || c.is_control();
        if name.is_empty() || name.contains(bad) {
            let detail = format!("`{}` is not the name of a variable", name.escape_debug());
            return Err(field("env", detail).hint("write NAME=VALUE, as in `--env EPOCHS=3`"));
        }
        if value.contains('\0') {
            return Err(field(
                "env",
                format!("the value of {name} holds a NUL character"),
            ));
        }
    }
    if env.len() > VARIABLE_LIMIT {
        let detail = format!("{} variables are more than {VARIABLE_LIMIT}", env.len());
        return Err(field("env", detail));
    }
    let words: usize = command.iter().map(String::len).sum();
    let variables: usize = env
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    Ok(words.saturating_add(variables))
}

/// Who a command is to be, as `USER` or `USER:GROUP`; whether the image has them is found out on
/// the node.
pub(crate) fn check_user(user: &str) -> Result<(), Problem> {
    let good = |part: &str| {
        let odd = |c: char| c.is_whitespace() || c.is_control() || c == ':' || c == '/';
        !part.is_empty() && part.len() <= USER_LIMIT_BYTES && !part.contains(odd)
    };
    let (name, group) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (user, None),
    };
    if good(name) && group.is_none_or(good) {
        return Ok(());
    }
    let shown: String = user.chars().take(80).collect();
    let detail = format!("`{}` is neither a name nor a number", shown.escape_debug());
    Err(field("user", detail).hint("write USER or USER:GROUP, as in `--user 1000:100`"))
}

/// Words of a command, wherever they come from.
pub(crate) fn check_texts(name: &str, words: &[String]) -> Result<(), Problem> {
    if words.iter().any(|word| word.contains('\0')) {
        return Err(field(name, "a command cannot hold NUL characters"));
    }
    Ok(())
}

/// How many characters have to be added, removed or replaced (Levenshtein's distance).
pub(crate) fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, mine) in (1..).zip(one.chars()) {
        let mut diagonal = std::mem::replace(&mut row[0], line);
        for (column, theirs) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(mine != *theirs);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

fn check_slots(request: &CreateSession, defaults: Defaults) -> Result<Slots, Problem> {
    let cpu = match &request.cpu {
        None => WHOLE,
        Some(text) => parse_decimal(text).map_err(|error| field("cpu", error))?,
    };
    if cpu < LEAST_CPU {
        let least = show_decimal(LEAST_CPU.into());
        let detail = format!("{} is less than {least}", show_decimal(cpu.into()));
        return Err(field("cpu", detail).hint(format!("ask for at least `--cpu {least}`")));
    }
    let memory = match &request.memory {
        None => defaults.memory_bytes,
        Some(text) => parse_bytes(text).map_err(|error| field("memory", error))?,
    };
    if memory < LEAST_MEMORY {
        let (asked, least) = (show_bytes(memory.into()), show_bytes(LEAST_MEMORY.into()));
        let hint = format!("ask for at least `--memory {}m`", LEAST_MEMORY >> 20);
        return Err(field("memory", format!("{asked} is less than {least}")).hint(hint));
    }
    Ok(Slots::of(cpu, memory))
}

fn check_disk(text: &str) -> Result<u64, Problem> {
    let bytes = parse_bytes(text).map_err(|error| field("disk", error))?;
    if bytes < LEAST_DISK {
        let (asked, least) = (show_bytes(bytes.into()), show_bytes(LEAST_DISK.into()));
        let hint = format!("ask for at least `--disk {}m`", LEAST_DISK >> 20);
        return Err(field("disk", format!("{asked} is less than {least}")).hint(hint));
    }
    if bytes > MOST_DISK {
        let (asked, most) = (show_bytes(bytes.into()), show_bytes(MOST_DISK.into()));
        let hint = format!("ask for at most `--disk {}t`", MOST_DISK >> 40);
        return Err(field("disk", format!("{asked} is more than {most}")).hint(hint));
    }
    Ok(bytes)
}

fn check_pids(pids: Option<u32>) -> Result<u32, Problem> {
    let pids = pids.unwrap_or(DEFAULT_PIDS);
    if (LEAST_PIDS..=MOST_PIDS).contains(&pids) {
        return Ok(pids);
    }
    let detail = format!("{pids} is not between {LEAST_PIDS} and {MOST_PIDS}");
    Err(field("pids", detail))
}

fn check_time(text: &str) -> Result<Span, Problem> {
    let time: Span = text.parse().map_err(|error| field("time", error))?;
    if time.0 == 0 {
        return Err(
            field("time", "no time at all is too little").hint("leave --time away for no limit")
        );
    }
    if time.0 > TIME_LIMIT_MS {
        let detail = format!("{time} is longer than ten years");
        return Err(field("time", detail).hint("leave --time away for no limit"));
    }
    Ok(time)
}

fn check_upload_id(text: &str) -> Result<UploadId, Problem> {
    text.parse().map_err(|error| field("upload", error))
}

/// An absolute path inside a session that leads where it says.
pub(crate) fn check_inner_path(name: &str, path: &str) -> Result<(), Problem> {
    if !path.starts_with('/') {
        let shown: String = path.chars().take(80).collect();
        let detail = format!("`{shown}` is not an absolute path");
        return Err(
            field(name, detail).hint(format!("write it from the root, as in /work/{shown}"))
        );
    }
    if path.len() > PATH_LIMIT_BYTES {
        return Err(field(
            name,
            format!("the path is longer than {PATH_LIMIT_BYTES} bytes"),
        ));
    }
    if path.contains('\0') || path.split('/').any(|part| part == "..") {
        let detail = format!("`{}` holds `..` or NUL", path.escape_debug());
        return Err(field(name, detail).hint("write the path that it leads to"));
    }
    Ok(())
}

#[cfg(test)]
impl Defaults {
    pub(crate) const FOR_TESTS: Self = Self {
        memory_bytes: DEFAULT_MEMORY,
    };
}

#[cfg(test)]
pub(crate) mod tests;
