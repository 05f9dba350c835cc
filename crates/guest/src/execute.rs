//! In the child: limits, identity, working directory, and the search for the program.

use crate::command::NotStarted;
use crate::identity::become_user;
use crate::signals::reset_signals;
use crate::terminal;
use guest_api::GuestConfig;
use rustix::{
    fs::{Access, access},
    io::Errno,
    process::{
        Resource, Rlimit, Signal, chdir, getrlimit, set_parent_process_death_signal, setrlimit,
        setsid,
    },
};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::null;

/// Where programs are looked for if the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The kernel reads so much of a script to find its interpreter.
const FIRST_LINE_LIMIT: u64 = 256;

/// Makes this process the command. Returns only if it cannot.
pub(crate) fn execute(config: &GuestConfig) -> NotStarted {
    match prepare(config) {
        Ok(prepared) => prepared.search(config),
        Err(failure) => failure,
    }
}

/// The command as execve takes it.
struct Prepared {
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

fn prepare(config: &GuestConfig) -> Result<Prepared, NotStarted> {
    if config.command.first().is_none_or(String::is_empty) {
        return Err(NotStarted::NotRunnable("the command is empty".to_owned()));
    }
    let with_nul = |what: &str| NotStarted::NotRunnable(format!("{what} holds a zero byte"));
    let arguments = config
        .command
        .iter()
        .map(|word| CString::new(word.as_str()));
    let arguments = arguments.collect::<Result<_, _>>();
    let environment = config.env.iter();
    let environment = environment.map(|(name, value)| CString::new(format!("{name}={value}")));
    let environment = environment.collect::<Result<_, _>>();
    let prepared = Prepared {
        arguments: arguments.map_err(|_| with_nul("an argument"))?,
        environment: environment.map_err(|_| with_nul("the environment"))?,
    };
    // A process that leads a group already cannot lead a session; a new child never does.
    let _ = setsid();
    if config.terminal.is_some() {
        terminal::take_control()
            .map_err(|error| NotStarted::SetUp(format!("taking the terminal: {error}")))?;
    }
    // A raised score is a wish: not every engine lets the guest change it.
    let score = config.command_oom_score_adj.to_string();
    let _ = std::fs::write("/proc/self/oom_score_adj", score);
    limit_open_files(config.open_files_limit);
    become_user(&config.run_as).map_err(|error| NotStarted::SetUp(error.to_string()))?;
    // After the change of user, which clears it: a guest that is killed takes the command along.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    chdir(config.workdir.as_str()).map_err(|error| {
        NotStarted::NotRunnable(format!(
            "working directory `{}`: {}",
            config.workdir,
            describe(error)
        ))
    })?;
    reset_signals();
    Ok(prepared)
}

/// Asks for `wanted`, and accepts what there is.
fn limit_open_files(wanted: u64) {
    let asked = Rlimit {
        current: Some(wanted),
        maximum: Some(wanted),
    };
    if setrlimit(Resource::Nofile, asked).is_ok() {
        return;
    }
    let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(wanted);
    let accepted = Rlimit {
        current: Some(wanted.min(hard)),
        maximum: Some(wanted.min(hard)),
    };
    // Whoever may not even lower it keeps what was inherited.
    let _ = setrlimit(Resource::Nofile, accepted);
}

impl Prepared {
    /// Tries the program in each directory of `PATH`, as a shell does.
    fn search(&self, config: &GuestConfig) -> NotStarted {
        let program = self.arguments[0].as_bytes();
        if program.contains(&b'/') {
            return match self.try_program(&self.arguments[0]) {
                Attempt::Absent => NotStarted::NotFound,
                Attempt::Failed(reason) => NotStarted::NotRunnable(reason),
            };
        }
        let path = config.env.iter().find(|(name, _)| name == "PATH");
        let path = path.map_or(DEFAULT_PATH, |(_, value)| value.as_str());
        let mut refused = None;
        // An empty entry would mean the working directory, which is no place to look by accident.
        for directory in path.split(':').filter(|entry| !entry.is_empty()) {
            let mut candidate = directory.as_bytes().to_vec();
            candidate.push(b'/');
            candidate.extend_from_slice(program);
            let Ok(candidate) = CString::new(candidate) else {
                continue;
            };
            if let Attempt::Failed(reason) = self.try_program(&candidate) {
                let at = candidate.to_string_lossy();
                refused.get_or_insert_with(|| format!("{at}: {reason}"));
            }
        }
        refused.map_or(NotStarted::NotFound, NotStarted::NotRunnable)
    }

    fn try_program(&self, program: &CStr) -> Attempt {
        let arguments = pointers(&self.arguments);
        let environment = pointers(&self.environment);
        // SAFETY: both lists end with a null pointer, and they, the strings they point to and
        // `program` outlive the call, which does not return if it succeeds.
        unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
        let error = io::Error::last_os_error();
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::NOENT);
        match errno {
            Errno::NOENT | Errno::NOTDIR if access(program, Access::EXISTS).is_err() => {
                Attempt::Absent
            }
            // The file is there: what is missing is what it names.
            Errno::NOENT | Errno::NOTDIR => Attempt::Failed(missing_interpreter(program)),
            Errno::NOEXEC => Attempt::Failed(
                "it is neither a program for this machine nor a script that begins with `#!`"
                    .to_owned(),
            ),
            Errno::ACCESS if is_directory(program) => {
                Attempt::Failed("it is a directory".to_owned())
            }
            errno => Attempt::Failed(describe(errno)),
        }
    }
}

/// What became of one place.
enum Attempt {
    /// There is nothing.
    Absent,
    /// There is something, and it does not run.
    Failed(String),
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    let pointers = strings.iter().map(|string| string.as_ptr());
    pointers.chain([null()]).collect()
}

fn path_of(program: &CStr) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(program.to_bytes()))
}

fn is_directory(program: &CStr) -> bool {
    path_of(program).is_dir()
}

fn missing_interpreter(program: &CStr) -> String {
    let mut line = Vec::new();
    if let Ok(file) = File::open(path_of(program)) {
        // An unreadable script is described without its first line.
        let _ = file.take(FIRST_LINE_LIMIT).read_to_end(&mut line);
    }
    describe_interpreter(&line)
}

/// Why a program that begins with `start` and exists was "not found".
fn describe_interpreter(start: &[u8]) -> String {
    let Some(line) = start.strip_prefix(b"#!") else {
        return "the loader that it names does not exist inside: it was built for another system"
            .to_owned();
    };
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let words = line.trim_matches([' ', '\t']);
    let interpreter = words.split([' ', '\t']).next().unwrap_or_default();
    let hint = if interpreter.ends_with('\r') {
        "; its lines end as on Windows"
    } else {
        ""
    };
    format!(
        "its interpreter `{}` does not exist inside{hint}",
        interpreter.escape_debug()
    )
}

/// What the kernel said, without the number.
fn describe(errno: Errno) -> String {
    let text = io::Error::from(errno).to_string();
    match text.rsplit_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::describe_interpreter;

    #[test]
    fn a_missing_interpreter_is_named() {
        let check = |start: &[u8], expected: &str| {
            let reason = describe_interpreter(start);
            assert!(reason.contains(expected), "{reason}");
        };
        check(b"#!/no/such -x\necho", "`/no/such`");
        check(b"#! /no/such\t-x", "`/no/such`");
        check(b"#!/bin/sh\r\necho", "`/bin/sh\\r`");
        check(b"#!/bin/sh\r\necho", "as on Windows");
        check(b"\x7fELF", "loader");
        check(b"", "loader");
    }
}
