//! The one place that writes to the terminal: results to stdout, everything else to stderr,
//! colour only where somebody looks.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is the printer that the ban points to"
)]

use crate::failure::Failure;
use clap::ColorChoice;
use clap::builder::styling::{AnsiColor, Style};
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;

/// Width of a table where stdout is no terminal: nothing is cut.
pub(crate) const UNLIMITED_WIDTH: usize = usize::MAX;
/// Least width a terminal is taken to have.
const LEAST_WIDTH: usize = 40;

const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();

/// What a piece of text means; how that looks is the printer's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Nothing special.
    Plain,
    /// A heading or a name.
    Strong,
    /// Of little interest.
    Faint,
    /// As it should be.
    Good,
    /// Worth a look.
    Careful,
    /// Wrong.
    Bad,
}

impl Tone {
    fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Strong => BOLD,
            Self::Faint => DIM,
            Self::Good => GOOD,
            Self::Careful => WARNING,
            Self::Bad => ERROR,
        }
    }
}

/// Writes to stdout and stderr.
#[derive(Clone, Debug)]
pub(crate) struct Printer {
    stdout_colour: bool,
    stdout_terminal: bool,
    stderr_colour: bool,
    stderr_terminal: bool,
    verbose: bool,
    silent: bool,
    width: usize,
}

impl Printer {
    /// A printer for this process's streams. `no_color` is whether the user's environment asks
    /// for no colour (<https://no-color.org>); `--color` has the last word.
    pub(crate) fn new(choice: ColorChoice, no_color: bool, verbose: bool) -> Self {
        let colour = |terminal: bool| match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal && !no_color,
        };
        let (stdout_terminal, stderr_terminal) =
            (io::stdout().is_terminal(), io::stderr().is_terminal());
        let width = rustix::termios::tcgetwinsize(io::stdout())
            .ok()
            .filter(|size| stdout_terminal && size.ws_col > 0)
            .map_or(UNLIMITED_WIDTH, |size| {
                usize::from(size.ws_col).max(LEAST_WIDTH)
            });
        Self {
            stdout_colour: colour(stdout_terminal),
            stdout_terminal,
            stderr_colour: colour(stderr_terminal),
            stderr_terminal,
            verbose,
            silent: false,
            width,
        }
    }

    /// The same printer, which says nothing on stderr: the terminal shows a picture that words
    /// would break.
    pub(crate) fn silenced(&self) -> Self {
        Self {
            silent: true,
            ..self.clone()
        }
    }

    /// Somebody looks at what we say on stderr.
    pub(crate) fn is_watched(&self) -> bool {
        self.stderr_terminal && !self.silent
    }

    /// `-v` was given.
    pub(crate) fn is_verbose(&self) -> bool {
        self.verbose
    }

    /// Somebody looks at stdout.
    pub(crate) fn is_terminal(&self) -> bool {
        self.stdout_terminal
    }

    /// Columns of the terminal behind stdout; without one, more than any table has.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// `text` in `tone`, for stdout.
    pub(crate) fn paint(&self, tone: Tone, text: &str) -> String {
        paint(self.stdout_colour, tone.style(), text)
    }

    /// A line of the result. A reader who has gone away is no failure of ours.
    pub(crate) fn line(&self, text: &str) -> Result<(), Failure> {
        self.bytes(format!("{text}\n").as_bytes())
    }

    /// A part of the result.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::from(error).context("cannot write to standard output"))
            }
            _ => Ok(()),
        }
    }

    /// The result as JSON, indented.
    pub(crate) fn json(&self, value: &impl serde::Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value).map_err(anyhow::Error::from)?;
        self.line(&text)
    }

    /// A line on stderr.
    pub(crate) fn note(&self, text: &str) {
        if !self.silent {
            write_stderr(&format!("{text}\n"));
        }
    }

    /// A line on stderr for `-v` only.
    pub(crate) fn detail(&self, text: &str) {
        if self.verbose {
            self.note(&paint(self.stderr_colour, DIM, text));
        }
    }

    /// A warning on stderr.
    pub(crate) fn warning(&self, text: &str) {
        self.labelled("warning", WARNING, text);
    }

    /// An error on stderr that does not end the command by itself.
    pub(crate) fn error(&self, text: &str) {
        self.labelled("error", ERROR, text);
    }

    /// What to do, on stderr.
    pub(crate) fn hint(&self, text: &str) {
        self.labelled("hint", HINT, text);
    }

    /// A failure on stderr: what, why, what to do; or as one line of JSON.
    pub(crate) fn failure(&self, failure: &Failure, json: bool) {
        if json {
            self.note(&failure.json().to_string());
            return;
        }
        self.error(&failure.error.to_string());
        for cause in failure.causes() {
            let label = paint(self.stderr_colour, ERROR, "Caused by");
            let cause = printable_lines(&cause).replace('\n', "\n    ");
            self.note(&format!("  {label}: {cause}"));
        }
        if let Some(hint) = &failure.hint {
            self.hint(hint);
        }
    }

    fn labelled(&self, label: &str, style: Style, text: &str) {
        let label = paint(self.stderr_colour, style, label);
        self.note(&format!("{label}: {}", printable_lines(text)));
    }
}

fn paint(colour: bool, style: Style, text: &str) -> String {
    if colour {
        format!("{style}{text}{style:#}")
    } else {
        text.to_owned()
    }
}

/// Nobody can be told that stderr is gone.
fn write_stderr(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Text from elsewhere made safe for a terminal: control characters are shown, not obeyed.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '\n' | '\t' => ' ',
            other => harmless(other),
        })
        .collect()
}

/// A path made safe for a terminal.
pub(crate) fn shown(path: impl AsRef<Path>) -> String {
    printable(&path.as_ref().to_string_lossy())
}

/// Text of several lines, some of it from elsewhere, made safe for a terminal.
fn printable_lines(text: &str) -> String {
    let keep = |character| match character {
        '\n' | '\t' => character,
        other => harmless(other),
    };
    text.chars().map(keep).collect()
}

fn harmless(character: char) -> char {
    // These ranges turn the direction of what follows.
    match character {
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
        other if other.is_control() => char::REPLACEMENT_CHARACTER,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::{Printer, printable_lines, shown};
    use clap::ColorChoice;

    #[test]
    fn nothing_moves_over_a_picture() {
        let mut printer = Printer::new(ColorChoice::Never, true, false);
        printer.stderr_terminal = true;
        assert!(printer.is_watched());
        assert!(!printer.silenced().is_watched());
    }

    #[test]
    fn names_from_elsewhere_are_not_obeyed() {
        assert_eq!(shown("a\u{1b}[2Jb\nerror: c\u{9b}"), "a�[2Jb error: c�");
        assert_eq!(printable_lines("a\n\tb\r\u{202e}"), "a\n\tb��");
    }
}
