//! What happened, line by line: the same seed gives the same lines, byte for byte.

use crate::clock::{Micros, SECOND};
use std::fmt::{self, Write as _};

/// FNV-1a, 64 bits.
const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// A record of a run. Without lines it keeps their digest only.
#[derive(Debug)]
pub(crate) struct Trace {
    digest: u64,
    lines: Option<String>,
}

impl Trace {
    pub(crate) fn new(keeps_lines: bool) -> Self {
        Self {
            digest: OFFSET,
            lines: keeps_lines.then(String::new),
        }
    }

    pub(crate) fn line(&mut self, at: Micros, what: fmt::Arguments<'_>) {
        let (seconds, micros) = (at / SECOND, at % SECOND);
        let mut sum = Sum(self.digest);
        writeln!(sum, "{seconds}.{micros:06} {what}").expect("a digest takes everything");
        self.digest = sum.0;
        if let Some(lines) = &mut self.lines {
            writeln!(lines, "{seconds}.{micros:06} {what}").expect("a string takes everything");
        }
    }

    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    pub(crate) fn into_lines(self) -> String {
        self.lines.unwrap_or_default()
    }
}

/// A digest that can be written to.
struct Sum(u64);

impl fmt::Write for Sum {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(PRIME);
        }
        Ok(())
    }
}
