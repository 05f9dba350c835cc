//! The terminal that we were started in: raw while a program inside has it, and given back on
//! every way out.

use public_api::TerminalView;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Mutex, Once, PoisonError};

/// What a terminal is taken to be whose size nobody knows.
const USUAL: TerminalView = TerminalView {
    columns: 80,
    rows: 24,
};
/// Leaves what a program may have left on when it was cut off: the second screen, a hidden
/// cursor, colours, other keys, the mouse, marked pastes.
const TIDY: &[u8] = b"\x1b[?1047l\x1b[?25h\x1b[0m\x1b[?1l\x1b>\x1b[?1000l\x1b[?1002l\x1b[?1003l\
\x1b[?1006l\x1b[?2004l\r\n";

/// How it was, while it is raw.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Both ends of a conversation are a terminal: keys come from it, and it shows what is written.
pub(crate) fn is_there() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Its size, or the usual one.
pub(crate) fn size() -> TerminalView {
    let found = tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin()));
    match found {
        Ok(found) if found.ws_col > 0 && found.ws_row > 0 => TerminalView {
            columns: found.ws_col,
            rows: found.ws_row,
        },
        _ => USUAL,
    }
}

/// The terminal is raw as long as this lives: keys are passed on as they are, also ctrl-C.
#[derive(Debug)]
pub(crate) struct Raw(());

impl Raw {
    /// Makes it raw. Given back when dropped, and by a panic, which may end the process at once.
    pub(crate) fn enter() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                give_back();
                before(panic);
            }));
        });
        let found = tcgetattr(io::stdin())?;
        let mut raw = found.clone();
        raw.make_raw();
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        let raw = tcsetattr(io::stdin(), OptionalActions::Now, &raw);
        if let Err(error) = raw {
            give_back();
            return Err(error.into());
        }
        Ok(Self(()))
    }

    /// Gives it back after a program that could not put it in order itself.
    pub(crate) fn tidy(self) {
        // A terminal that is gone needs no order.
        let mut stdout = io::stdout().lock();
        let _ = stdout.write_all(TIDY).and_then(|()| stdout.flush());
        drop(self);
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = before {
        // A terminal that is gone has no state.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
    }
}

/// Looks for ctrl-P ctrl-Q in what is typed.
#[derive(Debug, Default)]
pub(crate) struct DetachKeys {
    /// ctrl-P was typed, and is kept back until the next key.
    first: bool,
}

const CTRL_P: u8 = 0x10;
const CTRL_Q: u8 = 0x11;

impl DetachKeys {
    /// What is to be passed on of `typed`, and whether the keys were in it; what comes after them
    /// is for nobody.
    pub(crate) fn pass(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(typed.len() + 1);
        for key in typed {
            match (std::mem::take(&mut self.first), *key) {
                (true, CTRL_Q) => return (passed, true),
                (true, CTRL_P) => {
                    passed.push(CTRL_P);
                    self.first = true;
                }
                (false, CTRL_P) => self.first = true,
                (kept, key) => {
                    passed.extend(kept.then_some(CTRL_P));
                    passed.push(key);
                }
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::DetachKeys;

    #[test]
    fn only_both_keys_one_after_the_other_detach() {
        for (typed, passed, detached) in [
            (&b"ls\r"[..], &b"ls\r"[..], false),
            (b"\x10\x11", b"", true),
            (b"a\x10\x11b", b"a", true),
            (b"\x11\x10", b"\x11", false),
            (b"\x10x\x11", b"\x10x\x11", false),
            (b"\x10\x10\x11", b"\x10", true),
            (b"\x10", b"", false),
        ] {
            let whole = DetachKeys::default().pass(typed);
            assert_eq!(whole, (passed.to_vec(), detached), "{typed:?}");
            let mut keys = DetachKeys::default();
            let (mut by_one, mut seen) = (Vec::new(), false);
            for key in typed {
                let (more, both) = keys.pass(&[*key]);
                by_one.extend(more);
                if both {
                    seen = true;
                    break;
                }
            }
            assert_eq!((by_one, seen), (passed.to_vec(), detached), "{typed:?}");
        }
    }
}
