//! What each connection gets in each round: its frames understood, its output produced and sent.

use crate::connection::{Connection, Received, Role};
use crate::guest::{Guest, Phase};
use crate::logs::Follower;
use crate::stdin::{Progress, Stdin};
use crate::time::monotonic;
use domain::{ExitHow, Monotonic};
use guest_api::decoder::Piece;
use guest_api::{Reply, Stream};
use rustix::event::PollFlags;
use rustix::process::Pid;

impl Guest {
    /// A connection's socket has something to read, takes something, or is gone.
    pub(crate) fn connection_ready(&mut self, index: usize, flags: PollFlags) {
        let connection = &mut self.connections[index];
        if flags.contains(PollFlags::IN) && connection.wants_input() {
            if connection.receive(&mut self.buffer) == Received::Some {
                self.understand(index);
            }
        } else if flags.intersects(PollFlags::HUP | PollFlags::ERR) {
            connection.close();
        }
    }

    /// Produces and sends what every connection can take, and forgets those that are closed.
    pub(crate) fn serve(&mut self) {
        for index in 0..self.connections.len() {
            self.serve_one(index, false);
        }
        let now = monotonic();
        for connection in self.connections.extract_if(.., |one| one.is_closed()) {
            let Role::Exec(execution) = &connection.role else {
                continue;
            };
            let pid = execution.pid();
            let (detached, lives) = (execution.is_detached(), execution.lives());
            // With its terminal, whose foreground hears of it by the kernel.
            drop(connection);
            match (detached, lives) {
                (_, false) => {}
                (true, true) => self.executions.detach(pid),
                (false, true) => self.executions.hang_up(pid, now),
            }
        }
    }

    /// `ended`: nothing will be added to the logs.
    pub(crate) fn serve_one(&mut self, index: usize, ended: bool) {
        let connection = &mut self.connections[index];
        if let Role::Logs(mut follower) = connection.role {
            let log = match follower.stream {
                Stream::Stdout => &self.stdout,
                Stream::Stderr => &self.stderr,
            };
            follower.pump(log, connection, ended, &mut self.buffer);
            connection.role = Role::Logs(follower);
        }
        if let Role::Stdin(_) = connection.role {
            advance_input(&mut self.stdin, connection);
        }
        self.serve_beside(index, ended);
        let connection = &mut self.connections[index];
        // Frames may wait behind input that was pending, or behind answers that had no room.
        if connection.wants_input() {
            self.understand(index);
        }
        self.connections[index].flush();
    }

    /// Serves connections of commands and of their streams.
    fn serve_beside(&mut self, index: usize, ended: bool) {
        let connection = &mut self.connections[index];
        let role = match connection.role {
            Role::Exec(_) | Role::Attach(_) => {
                std::mem::replace(&mut connection.role, Role::Control)
            }
            _ => return,
        };
        connection.role = match role {
            Role::Exec(mut execution) => {
                if ended && execution.lives() {
                    execution.ended(ExitHow::Unknown, true);
                }
                execution.pump(connection, &mut self.buffer);
                Role::Exec(execution)
            }
            Role::Attach(attachment) if !connection.is_open() => Role::Attach(attachment),
            Role::Attach(mut attachment) => {
                attachment.move_input(&mut self.stdin, connection);
                let logs = [&self.stdout, &self.stderr];
                let all = attachment.move_output(logs, connection, &mut self.buffer);
                if let Phase::Draining(end) = &self.phase
                    && all
                    && ended
                {
                    connection.reply(&Reply::Ended {
                        how: end.how.clone(),
                        with_session: false,
                    });
                    connection.finish();
                }
                Role::Attach(attachment)
            }
            other => other,
        };
    }

    /// Some connection has input that the pipe has not taken.
    pub(crate) fn input_is_pending(&self) -> bool {
        let waits = |connection: &Connection| match &connection.role {
            Role::Stdin(cursor) => cursor.is_waiting(),
            Role::Attach(attachment) => attachment.input.is_waiting(),
            Role::New { .. } | Role::Control | Role::Watch | Role::Logs(_) | Role::Exec(_) => false,
        };
        self.connections.iter().any(waits)
    }

    /// A child was reaped that perhaps was a command of some connection.
    pub(crate) fn execution_ended(&mut self, pid: Pid, how: ExitHow) {
        self.executions.ended(pid);
        let with_session = !self.is_running() || self.ending.is_stopping();
        for connection in &mut self.connections {
            match &mut connection.role {
                Role::Exec(execution) if execution.pid() == pid && execution.lives() => {
                    return execution.ended(how, with_session);
                }
                _ => {}
            }
        }
    }

    /// Tells the ring of `stream` whom it waits for; returns when it stops waiting.
    pub(crate) fn follow_output(&mut self, now: Monotonic, stream: Stream) -> Option<Monotonic> {
        let lossless = |connection: &Connection| match &connection.role {
            Role::Logs(follower) if connection.is_open() => {
                let Follower {
                    stream: followed,
                    offset,
                    lossless,
                    ..
                } = *follower;
                (followed == stream && lossless).then_some(offset)
            }
            Role::Attach(attachment) if connection.is_open() => attachment.holds(stream),
            _ => None,
        };
        let lowest = self.connections.iter().filter_map(lossless).min();
        let log = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        log.follow(now, lowest)
    }

    /// Deals with the frames that have arrived, as far as there is room for answers.
    fn understand(&mut self, index: usize) {
        loop {
            let connection = &mut self.connections[index];
            if !connection.wants_input() {
                return;
            }
            match connection.decoder.next_piece() {
                Ok(Some(piece)) => self.understand_piece(index, piece),
                Ok(None) => return,
                Err(error) => return connection.fail(error.to_string()),
            }
        }
    }

    fn understand_piece(&mut self, index: usize, piece: Piece) {
        let connection = &mut self.connections[index];
        match (&mut connection.role, piece) {
            (Role::New { .. }, Piece::Control(body)) => self.open(index, &body),
            (Role::Control, Piece::Control(body)) => self.request(index, &body),
            (Role::Stdin(cursor), Piece::Data { bytes, last }) => {
                cursor.receive(bytes, last);
                advance_input(&mut self.stdin, connection);
            }
            (Role::Exec(execution), Piece::Data { bytes, .. }) => execution.input.receive(bytes),
            (Role::Attach(attachment), Piece::Data { bytes, .. }) => {
                attachment.input.receive(bytes);
            }
            (Role::Exec(_) | Role::Attach(_), Piece::Control(body)) => {
                self.request_beside(index, &body);
            }
            (
                Role::New { .. } | Role::Control | Role::Watch | Role::Logs(_) | Role::Stdin(_),
                Piece::Control(_) | Piece::Data { .. },
            ) => connection.fail("this frame has no place on this connection"),
        }
    }

    /// Tells everybody who watches where it is.
    pub(crate) fn tell_watchers(&mut self) {
        let reply = Reply::State {
            state: self.state(),
        };
        for connection in &mut self.connections {
            if matches!(connection.role, Role::Watch) && connection.is_open() {
                connection.reply(&reply);
            }
        }
    }

    /// The command has not ended, as far as is known.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running)
    }
}

/// Moves pending input into the pipe and answers what is complete.
fn advance_input(stdin: &mut Stdin, connection: &mut Connection) {
    let Role::Stdin(cursor) = &mut connection.role else {
        return;
    };
    match stdin.advance(cursor) {
        Progress::Idle | Progress::Waiting => {}
        Progress::Answer { offset, closed } => {
            connection.reply(&Reply::StdinAccepted { offset, closed });
        }
        Progress::OutOfPlace { accepted, offset } => connection.fail(format!(
            "input at {offset} does not join what was accepted, which ends at {accepted}"
        )),
    }
}
