//! What connections ask for: the first frame that says what they are, and requests.

use crate::attachment::Attachment;
use crate::connection::{Connection, Role};
use crate::executions::{Execution, Order};
use crate::guest::{Guest, Phase};
use crate::input::Input;
use crate::logs::Follower;
use crate::signals::{LAST_SIGNAL, send_signal};
use crate::stdin::Cursor;
use crate::terminal;
use crate::time::monotonic;
use domain::{ExitRecord, TerminalSize};
use guest_api::protocol::{ENDED, EXEC_LIMIT, PAUSED};
use guest_api::{GuestState, GuestStats, Open, Reply, Request};
use rustix::process::Pid;

impl Guest {
    /// A connection says what it is for.
    pub(crate) fn open(&mut self, index: usize, body: &[u8]) {
        let connection = &mut self.connections[index];
        let open = match rmp_serde::from_slice(body) {
            Ok(open) => open,
            Err(error) => return connection.fail(format!("the first frame: {error}")),
        };
        match open {
            Open::Control => connection.role = Role::Control,
            Open::Watch => {
                connection.role = Role::Watch;
                let state = self.state();
                self.connections[index].reply(&Reply::State { state });
            }
            Open::Logs {
                stream,
                offset,
                follow,
                lossless,
            } => {
                connection.widen();
                connection.role = Role::Logs(Follower {
                    stream,
                    offset,
                    follow,
                    lossless,
                });
            }
            Open::Stdin { offset } => connection.role = Role::Stdin(Cursor::new(offset)),
            Open::Exec { .. } => {
                if let Some(order) = Order::of(open) {
                    self.execute(index, order);
                }
            }
            Open::Attach {
                stdout,
                stderr,
                terminal,
                lossless,
            } => {
                let attachment = Attachment {
                    stdout: stdout.unwrap_or(self.stdout.end()),
                    stderr: stderr.unwrap_or(self.stderr.end()),
                    lossless,
                    input: Input::new(self.terminal.is_some()),
                };
                self.attach(index, attachment, terminal);
            }
            Open::ReadFile { .. } | Open::WriteFile { .. } | Open::ListFiles { .. } => {
                if !matches!(self.phase, Phase::Running) {
                    return connection.fail(ENDED);
                }
                match self.helpers.serve(connection, &open, &self.config.run_as) {
                    // The helper has the socket; here it is closed without a word.
                    Ok(()) => connection.close(),
                    Err(error) => connection.fail(error.to_string()),
                }
            }
        }
    }

    /// Begins a command beside the main one.
    fn execute(&mut self, index: usize, mut order: Order) {
        let serves = |connection: &&Connection| matches!(connection.role, Role::Exec(_));
        let served = self.connections.iter().filter(serves).count();
        let connection = &mut self.connections[index];
        if !matches!(self.phase, Phase::Running) {
            return connection.fail(ENDED);
        }
        if self.ending.is_paused() {
            return connection.fail(PAUSED);
        }
        if !self.executions.admit(served) {
            let reason = format!("there are {EXEC_LIMIT} further commands in this session already");
            return connection.fail(reason);
        }
        if let Err(error) = order.look_up(&self.config.run_as) {
            connection.reply(&Reply::UserRefused {
                reason: error.to_string(),
                hint: error.hint(),
            });
            return connection.finish();
        }
        match Execution::begin(order, &self.config) {
            Ok(execution) => connection.role = Role::Exec(Box::new(execution)),
            Err(how) => {
                connection.reply(&Reply::Ended {
                    how,
                    with_session: false,
                });
                connection.finish();
            }
        }
    }

    /// Joins a connection to the main command's streams.
    fn attach(&mut self, index: usize, attachment: Attachment, size: Option<TerminalSize>) {
        let connection = &mut self.connections[index];
        connection.reply(&Reply::Attached {
            stdout: attachment.stdout,
            stderr: attachment.stderr,
            terminal: self.terminal.is_some(),
            stdin: self.stdin.pipe().is_some(),
        });
        connection.role = Role::Attach(Box::new(attachment));
        let (Some(master), Some(size)) = (&self.terminal, size) else {
            return;
        };
        if terminal::has_size(master, size) {
            // Whoever comes wants to see the screen: programs draw it anew at this signal.
            if let Some(group) = terminal::foreground(master) {
                send_signal(-group, libc::SIGWINCH);
            }
        } else {
            // One that is gone has no size.
            let _ = terminal::resize(master, size);
        }
    }

    /// A request of a client that stays with a command.
    pub(crate) fn request_beside(&mut self, index: usize, body: &[u8]) {
        let connection = &mut self.connections[index];
        let request: Request = match rmp_serde::from_slice(body) {
            Ok(request) => request,
            Err(error) => return connection.fail(format!("the request: {error}")),
        };
        let obeyed = match (&mut connection.role, &request) {
            (Role::Exec(execution), request) => execution.obey(request),
            (_, Request::Resize { size }) => {
                if let Some(master) = &self.terminal {
                    // One that is gone has no size.
                    let _ = terminal::resize(master, *size);
                }
                Ok(())
            }
            (_, Request::Signal { signal }) => match self.signal(*signal) {
                Reply::Failed { reason } if self.is_running() => Err(reason),
                _ => Ok(()),
            },
            (
                _,
                Request::State
                | Request::Stats
                | Request::Stop { .. }
                | Request::Pause
                | Request::Resume,
            ) => Err("this request has no place on this connection".to_owned()),
        };
        if let Err(reason) = obeyed {
            self.connections[index].fail(reason);
        }
    }

    /// A question or an order.
    pub(crate) fn request(&mut self, index: usize, body: &[u8]) {
        let reply = match rmp_serde::from_slice(body) {
            Ok(request) => self.answer(&request),
            Err(error) => Reply::Failed {
                reason: format!("the request: {error}"),
            },
        };
        self.connections[index].reply(&reply);
    }

    fn answer(&mut self, request: &Request) -> Reply {
        match *request {
            Request::State => Reply::State {
                state: self.state(),
            },
            Request::Stats => Reply::Stats {
                stats: self.stats(),
            },
            Request::Signal { signal } => self.signal(signal),
            Request::Stop { signal, grace_ms } => self.stop(signal, grace_ms),
            Request::Pause => {
                self.ending.pause(monotonic());
                Reply::Done
            }
            Request::Resume => {
                self.ending.resume(monotonic());
                Reply::Done
            }
            Request::Resize { .. } => Reply::Failed {
                reason: "a terminal is resized on the connection that shows it".to_owned(),
            },
        }
    }

    fn signal(&mut self, signal: i32) -> Reply {
        if !(1..=LAST_SIGNAL).contains(&signal) {
            return no_signal(signal);
        }
        let front = self.terminal.as_ref().and_then(terminal::foreground);
        let target = |command: Pid| front.unwrap_or(command.as_raw_pid());
        match self.command {
            Some(command) if send_signal(-target(command), signal) => Reply::Done,
            Some(_) | None => Reply::Failed {
                reason: ENDED.to_owned(),
            },
        }
    }

    fn stop(&mut self, signal: i32, grace_ms: u64) -> Reply {
        if !(1..=LAST_SIGNAL).contains(&signal) {
            return no_signal(signal);
        }
        // A command that has ended is stopped: to ask again is no mistake.
        if self.is_running() {
            let first = self.ending.stop(monotonic(), signal, grace_ms);
            if let Some(signal) = first {
                self.reach.signal_all(self.command, signal);
                self.tell_watchers();
            }
        }
        Reply::Done
    }

    /// Where it is.
    pub(crate) fn state(&self) -> GuestState {
        match (&self.phase, self.started_at) {
            (Phase::Running, Some(since)) if self.ending.is_stopping() => {
                GuestState::Stopping { since }
            }
            (Phase::Running, Some(since)) => GuestState::Running { since },
            (Phase::Running, None) => GuestState::Waiting,
            // Until the record is written it is only about to end.
            (Phase::Draining(ended), since) => GuestState::Stopping {
                since: since.unwrap_or(ended.at),
            },
        }
    }

    fn stats(&self) -> GuestStats {
        let follows = |role: &Role| matches!(role, Role::Logs(_) | Role::Attach(_));
        let followers = self.connections.iter().filter(|one| follows(&one.role));
        GuestStats {
            processes: self.reach.count(self.command),
            stdout_bytes: self.stdout.end(),
            stderr_bytes: self.stderr.end(),
            stdin_bytes: self.stdin.accepted(),
            followers: u32::try_from(followers.count()).expect("there are few connections"),
            output_blocked: self.stdout.is_blocked() || self.stderr.is_blocked(),
        }
    }

    /// The record of a command that has ended.
    pub(crate) fn exit_record(&self) -> Option<ExitRecord> {
        let Phase::Draining(ended) = &self.phase else {
            return None;
        };
        Some(ExitRecord {
            member: self.config.member,
            started_at: self.started_at,
            ended_at: ended.at,
            how: ended.how.clone(),
            cause: ended.cause,
            stdout_bytes: self.stdout.end(),
            stderr_bytes: self.stderr.end(),
            // The guest sees that a process was killed, not by whom; the agent asks the cgroup.
            out_of_memory: None,
            reason: None,
            disk_bytes: None,
            limits_reached: self.memory_files.limits_reached(),
            system: None,
        })
    }
}

fn no_signal(signal: i32) -> Reply {
    Reply::Failed {
        reason: format!("{signal} is not a signal"),
    }
}
