//! What a process asked of the kernel about the files of one directory, as strace tells it.

use std::collections::BTreeMap;
use std::path::Path;

/// Every call that changes files or lets them reach the disk, with all bytes.
pub(super) const OPTIONS: [&str; 7] = [
    "-f",
    "-y",
    "-xx",
    "-s",
    "1000000",
    "-e",
    "trace=openat,open,creat,write,pwrite64,writev,pwritev,pwritev2,fsync,fdatasync,ftruncate,\
     truncate,fallocate,unlink,unlinkat,rename,renameat,renameat2,link,linkat,copy_file_range,\
     sendfile,sync_file_range",
];

/// The index of the log is shared memory: nothing of it is ever read from the disk.
const IN_MEMORY: &str = "-shm";

/// A call, by the name of its file in the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A file was opened that is made if it is missing.
    Open {
        name: String,
        empty: bool,
    },
    Write {
        name: String,
        offset: usize,
        bytes: Vec<u8>,
    },
    Length {
        name: String,
        length: usize,
    },
    /// Of a file, or of the directory.
    Sync {
        name: Option<String>,
    },
    Remove {
        name: String,
    },
    Rename {
        name: String,
        to: String,
    },
    /// What was written to the file of that which is told.
    Told(Vec<u8>),
}

/// The calls that a trace tells, in their order; one that is not known here is a failure.
pub(super) fn steps(trace: &str, directory: &Path) -> Vec<Step> {
    let directory = directory.to_str().expect("UTF-8");
    let mut unfinished = BTreeMap::new();
    let mut steps = Vec::new();
    for line in trace.lines() {
        let (process, call) = line.split_once(' ').expect("a process and its call");
        let call = call.trim_start();
        if let Some(begin) = call.strip_suffix("<unfinished ...>") {
            unfinished.insert(process, begin);
            continue;
        }
        let whole = match call.strip_prefix("<... ") {
            Some(rest) => {
                let begin: &str = unfinished.remove(process).expect("it began");
                let (_, end) = rest.split_once("resumed>").expect("its end");
                format!("{begin}{end}")
            }
            None => call.to_owned(),
        };
        steps.extend(step(&whole, directory));
    }
    steps
}

/// One call; nothing if it failed or is about another place.
fn step(call: &str, directory: &str) -> Option<Step> {
    // Signals and ends.
    let (name, rest) = call.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(" = ")?;
    if name.starts_with(['+', '-']) || result.starts_with('-') {
        return None;
    }
    let arguments = arguments.trim_end().strip_suffix(')').expect("its end");
    let arguments: Vec<&str> = arguments.split(", ").collect();
    let number = |place: usize| -> usize { arguments[place].parse().expect("a number") };
    let path = match name {
        "openat" | "unlinkat" | "renameat" | "renameat2" | "linkat" => quoted(arguments[1]),
        "open" | "creat" | "unlink" | "truncate" | "rename" | "link" => quoted(arguments[0]),
        _ => between(arguments[0], '<', '>')?,
    };
    let path = String::from_utf8(unescaped(path)).expect("UTF-8");
    let inside = path.strip_prefix(directory)?;
    let file = inside.strip_prefix('/').map(str::to_owned);
    if file
        .as_deref()
        .is_some_and(|file| file.ends_with(IN_MEMORY))
    {
        return None;
    }
    if matches!(name, "fsync" | "fdatasync") {
        return Some(Step::Sync { name: file });
    }
    let file = file?;
    match name {
        "open" | "openat" if !arguments.iter().any(|flags| flags.contains("O_CREAT")) => None,
        "open" | "openat" => Some(Step::Open {
            name: file,
            empty: arguments.iter().any(|flags| flags.contains("O_TRUNC")),
        }),
        "write" if file == super::TOLD => Some(Step::Told(unescaped(quoted(arguments[1])))),
        "pwrite64" => Some(Step::Write {
            name: file,
            offset: number(3),
            bytes: unescaped(quoted(arguments[1])),
        }),
        "ftruncate" => Some(Step::Length {
            name: file,
            length: number(1),
        }),
        // The reserve: nothing else is in the file, and it never shrinks by this.
        "fallocate" => Some(Step::Length {
            name: file,
            length: number(2) + number(3),
        }),
        "unlink" | "unlinkat" => Some(Step::Remove { name: file }),
        "rename" => {
            let to = String::from_utf8(unescaped(quoted(arguments[1]))).expect("UTF-8");
            let to = to
                .strip_prefix(directory)
                .and_then(|to| to.strip_prefix('/'));
            let to = to.expect("nothing leaves the directory").to_owned();
            Some(Step::Rename { name: file, to })
        }
        _ => panic!("nobody knows what this does to the disk: {call:.200}"),
    }
}

fn quoted(argument: &str) -> &str {
    between(argument, '"', '"').expect("a text")
}

fn between(text: &str, begin: char, end: char) -> Option<&str> {
    let (_, rest) = text.split_once(begin)?;
    Some(rest.rsplit_once(end)?.0)
}

/// The bytes of a text that has each as `\xNN`, or as itself.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4);
    let mut rest = text.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        if let [b'x', high, low, others @ ..] = others
            && *first == b'\\'
        {
            let digit = |digit: &u8| char::from(*digit).to_digit(16).expect("hexadecimal");
            bytes.push(u8::try_from(digit(high) * 16 + digit(low)).expect("a byte"));
            rest = others;
        } else {
            bytes.push(*first);
            rest = others;
        }
    }
    bytes
}
