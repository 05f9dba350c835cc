//! What connections ask for: the first frame that says what they are, and requests.

use crate::connection::Role;
use crate::guest::{Guest, Phase};
use crate::logs::Follower;
use crate::signals::{LAST_SIGNAL, send_signal};
use crate::stdin::Cursor;
use crate::time::monotonic;
use domain::ExitRecord;
use guest_api::{GuestState, GuestStats, Open, Reply, Request};

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
                connection.role = Role::Logs(Follower {
                    stream,
                    offset,
                    follow,
                    lossless,
                });
            }
            Open::Stdin { offset } => connection.role = Role::Stdin(Cursor::new(offset)),
            Open::ReadFile { .. } | Open::WriteFile { .. } | Open::ListFiles { .. } => {
                if !matches!(self.phase, Phase::Running) {
                    return connection.fail("the command has ended");
                }
                match self.helpers.serve(connection, &open, &self.config.run_as) {
                    // The helper has the socket; here it is closed without a word.
                    Ok(()) => connection.close(),
                    Err(error) => connection.fail(error.to_string()),
                }
            }
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
        }
    }

    fn signal(&mut self, signal: i32) -> Reply {
        if !(1..=LAST_SIGNAL).contains(&signal) {
            return no_signal(signal);
        }
        match self.command {
            Some(command) if send_signal(-command.as_raw_pid(), signal) => Reply::Done,
            Some(_) | None => Reply::Failed {
                reason: "the command has ended".to_owned(),
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
        let follows = |role: &Role| matches!(role, Role::Logs(_));
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
