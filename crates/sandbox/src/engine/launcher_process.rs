//! The launcher as the engine sees it: started when it is needed, and again when it has died.

use super::{LauncherCommand, act};
use crate::message::{Order, Outcome, Reply, Request, encode, receive};
use engine_api::EngineError;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use std::collections::HashMap;
use std::io::Write as _;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Holds the connection to the launcher that runs now, if one does.
#[derive(Debug)]
pub(super) struct LauncherProcess {
    command: LauncherCommand,
    connection: Mutex<Option<Arc<Connection>>>,
}

#[derive(Debug)]
struct Connection {
    /// The launcher's process.
    process: OwnedFd,
    stream: Mutex<UnixStream>,
    pending: Mutex<Pending>,
}

#[derive(Debug, Default)]
struct Pending {
    next: u64,
    answers: HashMap<u64, oneshot::Sender<Outcome>>,
    closed: bool,
}

impl LauncherProcess {
    pub(super) fn new(command: LauncherCommand) -> Self {
        Self {
            command,
            connection: Mutex::new(None),
        }
    }

    /// Sends an order to the launcher. The answer's channel is closed without one if it dies.
    pub(super) fn ask(&self, order: Order) -> Result<oneshot::Receiver<Outcome>, EngineError> {
        let connection = self.connection()?;
        let (answer, answered) = oneshot::channel();
        let id = {
            let mut pending = locked(&connection.pending);
            if pending.closed {
                return Err(EngineError::LauncherGone);
            }
            pending.next += 1;
            let id = pending.next;
            pending.answers.insert(id, answer);
            id
        };
        let request = Request { id, order };
        let sent = encode(&request).and_then(|bytes| locked(&connection.stream).write_all(&bytes));
        match sent {
            Ok(()) => Ok(answered),
            Err(error) => {
                locked(&connection.pending).answers.remove(&id);
                match error.kind() {
                    std::io::ErrorKind::BrokenPipe => {
                        // The thread that reads may learn of it later than the next call comes.
                        locked(&connection.pending).closed = true;
                        Err(EngineError::LauncherGone)
                    }
                    _ => Err(act("ask the launcher", error)),
                }
            }
        }
    }

    /// Ends the launcher that runs now: it does not answer, so a call of the kernel holds it, for
    /// example to a file system behind a network that is gone. The next start makes a new one.
    pub(super) fn give_up(&self) {
        if let Some(connection) = locked(&self.connection).take() {
            tracing::warn!("the sandbox's launcher does not answer and is ended");
            let _ = process::send_signal(&connection.process, Signal::KILL);
            let _ = locked(&connection.stream).shutdown(Shutdown::Both);
        }
    }

    /// The living connection, or a new one.
    fn connection(&self) -> Result<Arc<Connection>, EngineError> {
        let mut current = locked(&self.connection);
        let living = current
            .as_ref()
            .filter(|known| !locked(&known.pending).closed);
        if let Some(connection) = living {
            return Ok(Arc::clone(connection));
        }
        let connection = self.spawn()?;
        *current = Some(Arc::clone(&connection));
        Ok(connection)
    }

    fn spawn(&self) -> Result<Arc<Connection>, EngineError> {
        let failed = |error| act("start the sandbox's launcher", error);
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let mut command = process::command(&self.command.executable);
        command
            .args(&self.command.arguments)
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .process_group(0)
            .current_dir("/");
        process::hand_on_crash_points(&mut command);
        let child = command.spawn().map_err(failed)?;
        let pid = Pid::from_child(&child);
        let process = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| failed(error.into()))?;
        // It holds the other end of the pair as long as it lives.
        drop(command);
        let reader = ours.try_clone().map_err(failed)?;
        let connection = Arc::new(Connection {
            process,
            stream: Mutex::new(ours),
            pending: Mutex::default(),
        });
        let for_thread = Arc::clone(&connection);
        std::thread::Builder::new()
            .name("sandbox-launcher".to_owned())
            .spawn(move || for_thread.read(&reader, child))
            .map_err(failed)?;
        Ok(connection)
    }
}

impl Drop for LauncherProcess {
    fn drop(&mut self) {
        if let Some(connection) = locked(&self.connection).take() {
            // The launcher sees the end of file and ends, the thread sees its end and ends.
            let _ = locked(&connection.stream).shutdown(Shutdown::Both);
        }
    }
}

impl Connection {
    /// Hands answers to those who wait, until the launcher is gone; then reaps it.
    fn read(&self, stream: &UnixStream, mut child: Child) {
        while let Ok(Reply { id, outcome }) = receive::<Reply>(stream) {
            let answer = locked(&self.pending).answers.remove(&id);
            if let Some(answer) = answer {
                // Nobody waits for it any more: the container is found by `list`.
                let _ = answer.send(outcome);
            }
        }
        {
            let mut pending = locked(&self.pending);
            pending.closed = true;
            pending.answers.clear();
        }
        let _ = stream.shutdown(Shutdown::Both);
        match child.wait() {
            Ok(status) if status.success() => {}
            Ok(status) => tracing::warn!("the sandbox's launcher ended with {status}"),
            Err(error) => tracing::warn!("the sandbox's launcher cannot be reaped: {error}"),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
