//! One command beside the main one, with its connection.

use crate::command::{NotStarted, Output, REASON_LIMIT, Started, Streams, begin_command};
use crate::connection::Connection;
use crate::input::{Input, Took};
use crate::signals::{LAST_SIGNAL, send_signal};
use crate::terminal;
use crate::users::{self, NoUser};
use domain::{ExitHow, TerminalSize};
use guest_api::{FrameKind, GuestConfig, Open, Reply, Request, RunAs};
use rustix::{
    event::{PollFd, PollFlags},
    fs::{Access, access},
    io::{Errno, ioctl_fionbio, read, retry_on_intr, write},
    process::Pid,
};
use std::os::fd::OwnedFd;

/// Shells that a command may be left to, the first there is.
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];

/// Most signals that are kept for a program that does not run yet; more are lost.
const EARLY_SIGNALS_LIMIT: usize = 16;

/// What is asked for, as [`guest_api::Open::Exec`] has it.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) command: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) workdir: Option<String>,
    pub(crate) run_as: Option<RunAs>,
    pub(crate) user: Option<String>,
    /// Variables of that user; those of `env` come before them.
    user_env: Vec<(String, String)>,
    pub(crate) terminal: Option<TerminalSize>,
    pub(crate) stdin: bool,
    pub(crate) detach: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Execution {
    pid: Pid,
    program: String,
    detach: bool,
    /// Until its program runs, or cannot.
    start: Option<Start>,
    /// Why it never became its command.
    failure: Option<NotStarted>,
    streams: Streams,
    pub(crate) input: Input,
    end: Option<End>,
}

#[derive(Debug)]
struct Start {
    report: OwnedFd,
    told: Vec<u8>,
    /// Sent when its program runs: before, it may not lead its group yet.
    signals: Vec<i32>,
}

#[derive(Clone, Debug)]
struct End {
    how: ExitHow,
    with_session: bool,
}

impl Order {
    /// What is asked for; `None` where it is something else.
    pub(crate) fn of(open: Open) -> Option<Self> {
        let Open::Exec {
            command,
            env,
            workdir,
            run_as,
            user,
            terminal,
            stdin,
            detach,
        } = open
        else {
            return None;
        };
        Some(Self {
            command,
            env,
            workdir,
            run_as,
            user,
            user_env: Vec::new(),
            terminal,
            stdin,
            detach,
        })
    }

    /// Finds the user, if one is named. `main`: who the main command is.
    pub(crate) fn look_up(&mut self, main: &RunAs) -> Result<(), NoUser> {
        let Some(user) = &self.user else {
            return Ok(());
        };
        let found = users::look_up(user, main)?;
        self.run_as = Some(found.run_as);
        self.user_env = found.env;
        Ok(())
    }

    /// The configuration of a guest that would run this as its main command.
    fn configure(self, main: &GuestConfig) -> GuestConfig {
        let mut env = main.env.clone();
        for added in [self.user_env, self.env] {
            env.retain(|(name, _)| added.iter().all(|(added, _)| added != name));
            env.extend(added);
        }
        if self.terminal.is_some() && env.iter().all(|(name, _)| name != "TERM") {
            env.push(("TERM".to_owned(), "xterm".to_owned()));
        }
        let command = if self.command.is_empty() {
            vec![shell()]
        } else {
            self.command
        };
        GuestConfig {
            command,
            env,
            workdir: self.workdir.unwrap_or_else(|| main.workdir.clone()),
            run_as: self.run_as.unwrap_or_else(|| main.run_as.clone()),
            terminal: self.terminal.filter(|_| !self.detach),
            stdin_pipe: self.stdin && !self.detach,
            merge_output: false,
            ..main.clone()
        }
    }
}

fn shell() -> String {
    let there = SHELLS
        .iter()
        .find(|shell| access(**shell, Access::EXEC_OK).is_ok());
    // Without any the last one is not found, which is what the client is told.
    (*there.unwrap_or(&SHELLS[1])).to_owned()
}

impl Execution {
    /// Begins to start what is asked for; `Err` is how it ended before it began.
    pub(crate) fn begin(order: Order, main: &GuestConfig) -> Result<Self, ExitHow> {
        let output = if order.detach {
            Output::Nowhere
        } else {
            Output::Read
        };
        let detach = order.detach;
        let config = order.configure(main);
        let program = config.command[0].clone();
        let begun = begin_command(&config, output).and_then(|(started, report)| {
            let unblocked = ioctl_fionbio(&report, true);
            unblocked
                .map(|()| (started, report))
                .map_err(|error| NotStarted::SetUp(format!("unblocking a pipe: {error}")))
        });
        match begun {
            Ok((Started { pid, streams }, report)) => Ok(Self {
                pid,
                program,
                detach,
                start: Some(Start {
                    report,
                    told: Vec::new(),
                    signals: Vec::new(),
                }),
                failure: None,
                input: Input::new(streams.terminal.is_some()),
                streams,
                end: None,
            }),
            Err(failure) => Err(failure.into_record(program).0),
        }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Its process was not reaped yet.
    pub(crate) fn lives(&self) -> bool {
        self.end.is_none()
    }

    /// Its process was reaped.
    pub(crate) fn ended(&mut self, how: ExitHow, with_session: bool) {
        self.end = Some(End { how, with_session });
    }

    /// What wakes the guest for it. `room`: output can be queued.
    pub(crate) fn interests(&self, room: bool) -> Vec<PollFd<'_>> {
        let start = self
            .start
            .iter()
            .map(|start| (&start.report, PollFlags::IN));
        let outputs = [&self.streams.stdout, &self.streams.stderr];
        let outputs = outputs.into_iter().flatten();
        let outputs = outputs.filter(|_| room).map(|pipe| (pipe, PollFlags::IN));
        let waits = self.input.is_waiting();
        let input = self.streams.stdin.iter().filter(|_| waits);
        let input = input.map(|pipe| (pipe, PollFlags::OUT));
        let all = start.chain(outputs).chain(input);
        all.map(|(pipe, flags)| PollFd::new(pipe, flags)).collect()
    }

    /// Obeys a request of its client.
    pub(crate) fn obey(&mut self, request: &Request) -> Result<(), String> {
        match *request {
            Request::Resize { size } => {
                if let Some(master) = &self.streams.terminal {
                    // One that is gone has no size.
                    let _ = terminal::resize(master, size);
                }
                Ok(())
            }
            Request::Signal { signal } if (1..=LAST_SIGNAL).contains(&signal) => {
                match &mut self.start {
                    Some(start) if start.signals.len() < EARLY_SIGNALS_LIMIT => {
                        start.signals.push(signal);
                    }
                    Some(_) => {}
                    None => self.signal(signal),
                }
                Ok(())
            }
            Request::Signal { signal } => Err(format!("{signal} is not a signal")),
            Request::State
            | Request::Stats
            | Request::Stop { .. }
            | Request::Pause
            | Request::Resume => Err("this request has no place on this connection".to_owned()),
        }
    }

    /// Moves input and output, and tells what has become of it.
    pub(crate) fn pump(&mut self, connection: &mut Connection, buffer: &mut [u8]) {
        if !connection.is_open() {
            return;
        }
        self.look_at_start(connection, buffer);
        self.move_input();
        if connection.has_room()
            && let Some(news) = self.input.news()
        {
            connection.reply(&news);
        }
        let silent = self.move_output(connection, buffer);
        let Some(end) = self.end.clone().filter(|_| silent && self.start.is_none()) else {
            return;
        };
        let how = match self.failure.take() {
            Some(failure) => failure.into_record(self.program.clone()).0,
            None => end.how,
        };
        connection.reply(&Reply::Ended {
            how,
            with_session: end.with_session,
        });
        connection.finish();
    }

    /// Its program runs, and nobody is to stay with it.
    pub(crate) fn is_detached(&self) -> bool {
        self.detach && self.start.is_none() && self.failure.is_none()
    }

    fn signal(&self, signal: i32) {
        if self.lives() {
            let front = self.streams.terminal.as_ref();
            let front = front.and_then(terminal::foreground);
            send_signal(-front.unwrap_or(self.pid.as_raw_pid()), signal);
        }
    }

    fn look_at_start(&mut self, connection: &mut Connection, buffer: &mut [u8]) {
        let Some(start) = &mut self.start else {
            return;
        };
        loop {
            match retry_on_intr(|| read(&start.report, &mut *buffer)) {
                Ok(0) | Err(_) if start.told.len() > REASON_LIMIT => break,
                Err(Errno::AGAIN) => return,
                Ok(0) | Err(_) => break,
                Ok(count) => start.told.extend_from_slice(&buffer[..count]),
            }
        }
        let signals = std::mem::take(&mut start.signals);
        self.failure = NotStarted::decode(&start.told);
        self.start = None;
        if self.failure.is_none() {
            connection.reply(&Reply::Started);
            for signal in signals {
                self.signal(signal);
            }
            if self.detach {
                connection.finish();
            }
        }
    }

    fn move_input(&mut self) {
        let Some(pipe) = &self.streams.stdin else {
            self.input.close();
            return;
        };
        self.input
            .advance(|bytes| match retry_on_intr(|| write(pipe, bytes)) {
                Ok(count) => Took::Some(count),
                Err(Errno::AGAIN) => Took::Nothing,
                Err(_) => Took::Closed,
            });
        if self.input.is_over() {
            self.streams.stdin = None;
            self.input.close();
        }
    }

    /// Returns whether there is no output now.
    fn move_output(&mut self, connection: &mut Connection, buffer: &mut [u8]) -> bool {
        let outputs = [
            (&mut self.streams.stdout, FrameKind::Data),
            (&mut self.streams.stderr, FrameKind::ErrorData),
        ];
        let mut silent = true;
        for (stream, kind) in outputs {
            while let Some(pipe) = &stream {
                if !connection.is_open() || !connection.has_room() {
                    silent = false;
                    break;
                }
                match retry_on_intr(|| read(pipe, &mut *buffer)) {
                    Err(Errno::AGAIN) => break,
                    Ok(count) if count > 0 => connection.bytes(kind, &buffer[..count]),
                    // A terminal whose other side is closed has an error, not an end.
                    Ok(_) | Err(_) => *stream = None,
                }
            }
        }
        silent
    }
}
