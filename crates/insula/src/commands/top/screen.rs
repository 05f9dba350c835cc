//! The terminal while `top` has it: keys as they are pressed, a screen of its own, only changed
//! lines written, and everything as it was on every way out.
//!
//! `kill -9` leaves no way out: then the shell's `reset` helps.

use super::rates::SortKey;
use crate::failure::Failure;
use rustix::termios::{LocalModes, OptionalActions, QueueSelector, Termios};
use rustix::termios::{tcflush, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::sync::{Mutex, PoisonError};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// To a screen of its own, without a cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[2J";
/// Back.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// Keys that wait; more are forgotten.
const KEYS_LIMIT: usize = 64;
/// Size where the terminal does not tell.
const DEFAULT_SIZE: (usize, usize) = (80, 24);
/// Rows that a page key passes over.
const PAGE_ROWS: isize = 10;

/// How the terminal was, while it is not; a panic has to find it too.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// What the user wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Quit,
    Sort(SortKey),
    Scroll(isize),
    /// A sample now.
    Now,
    /// The terminal has another size, or is ours again.
    Resized,
}

/// The terminal, ours until this is dropped.
#[derive(Debug)]
pub(super) struct Screen {
    keys: mpsc::Receiver<Key>,
    resized: Signal,
    suspended: Signal,
    /// What stands there.
    drawn: Vec<String>,
}

impl Screen {
    /// Takes the terminal.
    pub(super) fn enter() -> Result<Self, Failure> {
        let (sender, keys) = mpsc::channel(KEYS_LIMIT);
        let screen = Self {
            keys,
            resized: signal(SignalKind::window_change())?,
            suspended: signal(SignalKind::from_raw(libc::SIGTSTP))?,
            drawn: Vec::new(),
        };
        restore_on_panic();
        take()?;
        if io::stdin().is_terminal() {
            // It waits for a key for ever, and ends with the process.
            std::thread::spawn(move || read_keys(&sender));
        }
        Ok(screen)
    }

    /// The next thing that the user wants. Safe to drop.
    pub(super) async fn key(&mut self) -> Key {
        tokio::select! {
            Some(key) = self.keys.recv() => return key,
            _ = self.resized.recv() => {}
            _ = self.suspended.recv() => {
                give_back();
                // Until somebody continues us.
                let own = rustix::process::getpid();
                let _ = rustix::process::kill_process(own, rustix::process::Signal::STOP);
                let _ = take();
            }
        }
        self.drawn.clear();
        Key::Resized
    }

    /// Columns and lines.
    pub(super) fn size(&self) -> (usize, usize) {
        match tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
                (usize::from(size.ws_col), usize::from(size.ws_row))
            }
            _ => DEFAULT_SIZE,
        }
    }

    /// Shows `lines`, which fill the screen. A terminal that takes them slowly holds nobody up but
    /// the next picture.
    pub(super) async fn draw(&mut self, lines: &[String]) -> Result<(), Failure> {
        let bytes = changes(&self.drawn, lines);
        if bytes.is_empty() {
            return Ok(());
        }
        let write = move || {
            let mut stdout = io::stdout().lock();
            stdout.write_all(bytes.as_bytes())?;
            stdout.flush()
        };
        match tokio::task::spawn_blocking(write).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(error.into()),
            Err(error) => return Err(anyhow::Error::from(error).into()),
        }
        self.drawn = lines.to_vec();
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// What has to be written so that `after` stands where `before` did; everything, where nothing is
/// known to stand there.
fn changes(before: &[String], after: &[String]) -> String {
    let mut out = String::new();
    if before.len() != after.len() {
        out.push_str("\x1b[2J");
    }
    for (number, line) in after.iter().enumerate() {
        if before.len() != after.len() || before[number] != *line {
            out.push_str(&format!("\x1b[{};1H{line}\x1b[0m\x1b[K", number + 1));
        }
    }
    out
}

/// Keys without enter and without echo; signals by key stay, so ctrl-C and ctrl-Z work.
fn take() -> Result<(), Failure> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        let before = tcgetattr(&stdin).map_err(io::Error::from)?;
        let mut ours = before.clone();
        ours.local_modes
            .remove(LocalModes::ICANON | LocalModes::ECHO);
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        tcsetattr(&stdin, OptionalActions::Now, &ours).map_err(io::Error::from)?;
    }
    let mut stdout = io::stdout().lock();
    stdout.write_all(ENTER.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

/// The terminal as it was. What still waits to be shown is dropped: a terminal that was stopped
/// (ctrl-S) must not keep us here.
fn give_back() {
    let _ = tcflush(io::stdout(), QueueSelector::OFlush);
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(LEAVE.as_bytes());
    let _ = stdout.flush();
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = before {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
    }
}

/// A release aborts on panic, so nothing is dropped; the hook is all that runs.
fn restore_on_panic() {
    let earlier = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        give_back();
        earlier(panic);
    }));
}

fn read_keys(keys: &mpsc::Sender<Key>) {
    let mut stdin = io::stdin().lock();
    let mut bytes = [0; 32];
    loop {
        let count = match stdin.read(&mut bytes) {
            Ok(0) => return,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        for key in understood(&bytes[..count]) {
            if let Err(mpsc::error::TrySendError::Closed(_)) = keys.try_send(key) {
                return;
            }
        }
    }
}

/// The keys in what was typed; unknown ones and cut sequences are passed over.
fn understood(mut typed: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    while let Some((first, rest)) = typed.split_first() {
        let (key, rest) = match (first, rest) {
            (0x1b, [b'[' | b'O', b'A', rest @ ..]) => (Some(Key::Scroll(-1)), rest),
            (0x1b, [b'[' | b'O', b'B', rest @ ..]) => (Some(Key::Scroll(1)), rest),
            (0x1b, [b'[', b'5', b'~', rest @ ..]) => (Some(Key::Scroll(-PAGE_ROWS)), rest),
            (0x1b, [b'[', b'6', b'~', rest @ ..]) => (Some(Key::Scroll(PAGE_ROWS)), rest),
            (0x1b, _) => (None, &[][..]),
            (byte, rest) => (key_of(*byte), rest),
        };
        keys.extend(key);
        typed = rest;
    }
    keys
}

fn key_of(byte: u8) -> Option<Key> {
    Some(match byte {
        // Ctrl-C and ctrl-D too, where they come as bytes.
        b'q' | b'Q' | 3 | 4 => Key::Quit,
        b'c' => Key::Sort(SortKey::Cpu),
        b'm' => Key::Sort(SortKey::Memory),
        b'p' => Key::Sort(SortKey::Pids),
        b'r' => Key::Sort(SortKey::Read),
        b'w' => Key::Sort(SortKey::Write),
        b't' => Key::Sort(SortKey::Time),
        b'n' => Key::Sort(SortKey::Name),
        b'j' => Key::Scroll(1),
        b'k' => Key::Scroll(-1),
        b' ' => Key::Now,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{Key, changes, understood};
    use crate::commands::top::rates::SortKey;

    #[test]
    fn keys_are_understood_and_sequences_do_not_break() {
        let keys = understood(b"mx\x1b[A\x1b[6~\x1bOB q");
        let expected = [
            Key::Sort(SortKey::Memory),
            Key::Scroll(-1),
            Key::Scroll(10),
            Key::Scroll(1),
            Key::Now,
            Key::Quit,
        ];
        assert_eq!(keys, expected);
        assert_eq!(
            understood(b"\x1b[1;5q"),
            [],
            "an unknown sequence quits nothing"
        );
    }

    #[test]
    fn only_lines_that_changed_are_written() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let (one, two) = (lines("a\nb\nc"), lines("a\nB\nc"));
        assert_eq!(changes(&one, &two), "\x1b[2;1HB\x1b[0m\x1b[K");
        assert_eq!(changes(&one, &one), "");
        let all = changes(&[], &one);
        assert!(
            all.starts_with("\x1b[2J") && all.contains("\x1b[3;1Hc"),
            "{all:?}"
        );
    }
}
