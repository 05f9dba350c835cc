//! Clients joined to processes of a session: its main command, or further ones that are started
//! for them.

use crate::app::SiteService;
use crate::app::input::Place;
use crate::app::pause::is_paused;
use crate::app::problems::{field, of_node};
use crate::app::validate::{check_inner_path, check_user, check_words};
use domain::{ExitHow, SessionRecord, TerminalSize};
use futures::StreamExt;
use node_api::{JoinRequest, JoinedProcess, LogStream, NodeError, ProcessInput, ProcessOutput};
use public_api::{
    AcceptedView, AttachOrder, Caller, ClientMessage, ClientMessageStream, ExecOrder, GapView,
    JoinedView, OutputStream, Problem, ProblemCode, ProcessControl, ProcessEnd, ProcessEvent,
    ServerMessage, ServerMessageStream, TerminalView,
};

/// Most bytes of a further command and its variables: a guest takes them in one frame.
const COMMAND_LIMIT_BYTES: usize = 128 << 10;
/// The exit code where nobody knows one.
const NO_CODE: u8 = 125;

/// A size as the domain has it.
pub(crate) fn terminal_of(size: TerminalView) -> TerminalSize {
    TerminalSize {
        columns: size.columns,
        rows: size.rows,
    }
}

impl SiteService {
    pub(crate) async fn execute(
        &self,
        caller: &Caller,
        session: &str,
        order: ExecOrder,
        input: ClientMessageStream,
    ) -> Result<ServerMessageStream, Problem> {
        let bytes = check_words(&order.command, &order.env)?;
        if bytes > COMMAND_LIMIT_BYTES {
            let detail = format!(
                "the command and its variables have {bytes} bytes, more than {COMMAND_LIMIT_BYTES}"
            );
            return Err(field("command", detail).hint("pass long data by its input"));
        }
        if let Some(workdir) = &order.workdir {
            check_inner_path("workdir", workdir)?;
        }
        if let Some(user) = &order.user {
            check_user(user)?;
        }
        let process = JoinedProcess::Exec {
            command: order.command,
            env: order.env.into_iter().collect(),
            workdir: order.workdir,
            user: order.user,
            terminal: order.terminal.map(terminal_of),
            stdin: order.stdin || order.terminal.is_some(),
            detach: order.detach,
        };
        self.join(caller, session, process, input).await
    }

    pub(crate) async fn join_main(
        &self,
        caller: &Caller,
        session: &str,
        order: AttachOrder,
        input: ClientMessageStream,
    ) -> Result<ServerMessageStream, Problem> {
        let process = JoinedProcess::Main {
            stdout: order.stdout,
            stderr: order.stderr,
            terminal: order.terminal.map(terminal_of),
            lossless: order.lossless,
        };
        self.join(caller, session, process, input).await
    }

    async fn join(
        &self,
        caller: &Caller,
        session: &str,
        process: JoinedProcess,
        input: ClientMessageStream,
    ) -> Result<ServerMessageStream, Problem> {
        let record = self.resolve(caller, session).await?;
        if !record.state.is_living() {
            return Err(has_ended(&record));
        }
        let begins = matches!(process, JoinedProcess::Exec { .. });
        if begins && record.pause.is_some() {
            return Err(is_paused(&record));
        }
        let (node, member) = match self.await_main(record.id).await? {
            Some(Place::Running(node, member)) => (node, member),
            Some(Place::Ended) => return Err(has_ended(&record)),
            None => {
                let detail = format!("session {} does not run yet", record.shown_name());
                let hint = format!(
                    "`insula why {}` tells what it waits for",
                    record.shown_name()
                );
                return Err(Problem::new(ProblemCode::WrongState, detail).hint(hint));
            }
        };
        let request = JoinRequest { member, process };
        let ends_retries = matches!(request.process, JoinedProcess::Main { .. });
        let service = self.clone();
        let id = record.id;
        let input = input.filter_map(move |message| {
            let service = service.clone();
            async move {
                if ends_retries && is_last_attempt(&message) {
                    // A signal that comes all the same does less harm than none.
                    if let Err(problem) = service.end_retries(id).await {
                        tracing::warn!(session.id = %id, "its attempts go on: {problem}");
                    }
                }
                input_of(message)
            }
        });
        let joined = self.node_api(node)?.join(request, input.boxed()).await;
        let output = joined.map_err(|error| of_join(&error, &record))?;
        Ok(output
            .map(move |output| {
                output
                    .map(message_of)
                    .map_err(|error| of_join(&error, &record))
            })
            .boxed())
    }
}

fn has_ended(record: &SessionRecord) -> Problem {
    let name = record.shown_name();
    Problem::new(ProblemCode::WrongState, format!("session {name} has ended"))
        .hint(format!("`insula logs {name}` has what it wrote"))
}

/// What a node answers where nobody can be joined.
fn of_join(error: &NodeError, record: &SessionRecord) -> Problem {
    match error {
        // It was paused just now.
        NodeError::Paused { .. } => is_paused(record),
        // The guest's own words: too many commands, or an end that came first.
        NodeError::Refused { reason } => Problem::new(ProblemCode::WrongState, reason.clone())
            .hint(format!(
                "`insula show {}` tells how it is",
                record.shown_name()
            )),
        NodeError::UserRefused { reason, hint } => {
            let hint = hint.replace("SESSION", &record.shown_name());
            field("user", reason.clone()).hint(hint)
        }
        NodeError::WrongState { .. } | NodeError::UnknownMember { .. } => has_ended(record),
        NodeError::Disconnected
        | NodeError::Undecodable { .. }
        | NodeError::Unsupported { .. }
        | NodeError::NotFound { .. }
        | NodeError::PathRefused { .. }
        | NodeError::Failed { .. } => of_node(error),
    }
}

fn is_last_attempt(message: &ClientMessage) -> bool {
    matches!(message, ClientMessage::Control(ProcessControl::Signal(order)) if order.last_attempt)
}

/// What a message asks of the process; orders are not for it.
fn input_of(message: ClientMessage) -> Option<ProcessInput> {
    Some(match message {
        ClientMessage::Input(bytes) if bytes.is_empty() => return None,
        ClientMessage::Input(bytes) => ProcessInput::Bytes {
            bytes: bytes.into(),
        },
        ClientMessage::Control(ProcessControl::End) => ProcessInput::End,
        ClientMessage::Control(ProcessControl::Resize(size)) => ProcessInput::Resize {
            size: terminal_of(size),
        },
        ClientMessage::Control(ProcessControl::Signal(order)) => ProcessInput::Signal {
            signal: order.signal,
        },
        ClientMessage::Control(ProcessControl::Exec(_) | ProcessControl::Attach(_)) => return None,
    })
}

fn message_of(output: ProcessOutput) -> ServerMessage {
    let event = match output {
        ProcessOutput::Stdout { bytes } => return ServerMessage::Stdout(bytes.into()),
        ProcessOutput::Stderr { bytes } => return ServerMessage::Stderr(bytes.into()),
        ProcessOutput::Started => ProcessEvent::Started,
        ProcessOutput::Joined {
            stdout,
            stderr,
            terminal,
            stdin,
        } => ProcessEvent::Joined(JoinedView {
            stdout,
            stderr,
            terminal,
            stdin,
        }),
        ProcessOutput::Gap { stream, bytes } => ProcessEvent::Gap(GapView {
            stream: match stream {
                LogStream::Stdout => OutputStream::Stdout,
                LogStream::Stderr => OutputStream::Stderr,
            },
            bytes,
        }),
        ProcessOutput::Accepted { offset, closed } => {
            ProcessEvent::Accepted(AcceptedView { offset, closed })
        }
        ProcessOutput::Ended { how, with_session } => {
            ProcessEvent::Ended(end_of(&how, with_session))
        }
    };
    ServerMessage::Event(event)
}

fn end_of(how: &ExitHow, with_session: bool) -> ProcessEnd {
    let (exit_code, cause, reason) = match how {
        ExitHow::Exited { code } => (*code, "exit_code", format!("it exited with {code}")),
        ExitHow::Signalled { signal, .. } => {
            let code = u8::try_from(128 + signal).unwrap_or(NO_CODE);
            (code, "signal", format!("signal {signal} ended it"))
        }
        ExitHow::NotFound { program } => {
            let reason = format!("`{program}` was not found");
            (127, "command_not_found", reason)
        }
        ExitHow::NotRunnable { program, reason } => {
            let reason = format!("`{program}` cannot be run: {reason}");
            (126, "command_not_runnable", reason)
        }
        ExitHow::NeverRan { reason } => {
            let reason = format!("it could not be started: {reason}");
            (NO_CODE, "start_failed", reason)
        }
        ExitHow::Unknown if with_session => {
            (NO_CODE, "unknown", "it ended with its session".to_owned())
        }
        ExitHow::Unknown => (NO_CODE, "unknown", "nobody saw how it ended".to_owned()),
    };
    ProcessEnd {
        exit_code,
        cause: cause.to_owned(),
        reason,
        with_session,
    }
}

#[cfg(test)]
mod tests {
    use super::end_of;
    use domain::ExitHow;

    #[test]
    fn ends_have_the_codes_of_a_shell() {
        let program = "x".to_owned();
        let reason = "no".to_owned();
        for (how, code, cause) in [
            (ExitHow::Exited { code: 7 }, 7, "exit_code"),
            (
                ExitHow::Signalled {
                    signal: 9,
                    core_dumped: false,
                },
                137,
                "signal",
            ),
            (
                ExitHow::NotFound {
                    program: program.clone(),
                },
                127,
                "command_not_found",
            ),
            (
                ExitHow::NotRunnable {
                    program,
                    reason: reason.clone(),
                },
                126,
                "command_not_runnable",
            ),
            (ExitHow::NeverRan { reason }, 125, "start_failed"),
            (ExitHow::Unknown, 125, "unknown"),
        ] {
            let end = end_of(&how, false);
            assert_eq!((end.exit_code, end.cause.as_str()), (code, cause));
        }
    }
}
