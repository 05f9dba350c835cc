//! Every exit code of the executable, in one place; the help texts quote them.

/// All went well.
pub(crate) const SUCCESS: u8 = 0;
/// The request failed: the site said no, or it could not be asked.
pub(crate) const FAILURE: u8 = 1;
/// The command line is wrong.
pub(crate) const USAGE: u8 = 2;
/// `run`, `exec`, `attach`: Insula failed, not the command. Also for their wrong command lines, so that 1 and 2
/// are always the command's own.
pub(crate) const INSULA_FAILED: u8 = 125;
/// `run`: our terminal was closed (128 + SIGHUP); the session runs on.
pub(crate) const HANGUP: u8 = 129;
/// Interrupted before the site could be told, or while files came back (128 + SIGINT).
pub(crate) const INTERRUPTED: u8 = 130;
/// We were asked to end at once (128 + SIGQUIT); a session runs on.
pub(crate) const QUIT: u8 = 131;
/// `run`: the session was killed because ctrl-C was pressed three times (128 + SIGKILL).
pub(crate) const KILLED: u8 = 137;
/// `run`: we were asked to end (128 + SIGTERM); the session runs on.
pub(crate) const TERMINATED: u8 = 143;

/// The lines about exit codes in the help of every verb but `run`.
pub(crate) const USUAL_HELP: &str = "\
Exit codes:
  0  it was done
  1  it failed; the reason and what to do stand on stderr
  2  the command line is wrong";
