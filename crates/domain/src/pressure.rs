//! Pressure: how much of the time processes wait for CPU, memory or disks, as the kernel measures it.
//!
//! The kernel's words are *some* and *full*; told is *some*: the time in which at least one process
//! waited. For CPU that includes waiting because of a limit on CPU time, for memory the time that is
//! spent to make room below a limit. See the kernel's Documentation/accounting/psi.rst.

use serde::{Deserialize, Serialize};

/// The share, in hundredths of a percent, that is all of the time.
const WHOLE: u32 = 10_000;
/// From this share on waiting is worth telling to somebody who asks why a session is slow: 10 %.
const NOTICEABLE: u32 = 1_000;

/// How long something was waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    /// The share of the last 10 seconds, in hundredths of a percent: at most 10,000.
    pub recent_hundredths: u32,
    /// All of it so far, in microseconds.
    pub total_micros: u64,
}

/// What is waited for: of a member, or of everything on a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pressure {
    /// For a CPU, or for the next share of a limited one.
    pub cpu: Stall,
    /// For memory: to be given back, read again or made room for.
    pub memory: Stall,
    /// For a disk.
    pub io: Stall,
}

/// A thing that is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scarce {
    /// CPU time.
    Cpu,
    /// Memory.
    Memory,
    /// Disks.
    Io,
}

impl Scarce {
    /// As it is shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Io => "disk",
        }
    }
}

impl Stall {
    /// From the kernel's lines: `some avg10=1.50 avg60=0.20 avg300=0.00 total=1234`, and another
    /// that begins with `full`. `None` if they do not tell.
    pub fn parse(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
        let field = |name: &str| {
            let mut words = line.split_ascii_whitespace();
            words.find_map(|word| word.strip_prefix(name))
        };
        let (whole, hundredths) = field("avg10=")?.split_once('.')?;
        let (whole, hundredths): (u32, u32) = (whole.parse().ok()?, hundredths.parse().ok()?);
        let recent = whole.checked_mul(100)?.checked_add(hundredths)?;
        Some(Self {
            recent_hundredths: recent.min(WHOLE),
            total_micros: field("total=")?.parse().ok()?,
        })
    }

    /// Of two that wait beside each other: the larger share, and both totals.
    fn joined(self, other: Self) -> Self {
        Self {
            recent_hundredths: self.recent_hundredths.max(other.recent_hundredths),
            total_micros: self.total_micros.saturating_add(other.total_micros),
        }
    }

    /// Its share as a whole number of percent, rounded.
    pub fn percent(self) -> u32 {
        (self.recent_hundredths + 50) / 100
    }

    /// Whether it is worth telling.
    pub fn is_noticeable(self) -> bool {
        self.recent_hundredths >= NOTICEABLE
    }
}

impl Pressure {
    /// From the kernel's three files; `None` if one of them does not tell.
    pub fn parse(read: impl Fn(&'static str) -> Option<String>) -> Option<Self> {
        let stall = |name| Stall::parse(&read(name)?);
        Some(Self {
            cpu: stall("cpu")?,
            memory: stall("memory")?,
            io: stall("io")?,
        })
    }

    /// Of members beside each other: of each the larger share, and all that was waited.
    #[must_use]
    pub fn joined(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.joined(other.cpu),
            memory: self.memory.joined(other.memory),
            io: self.io.joined(other.io),
        }
    }

    /// Each thing with how it is waited for, the most wanted of the last 10 seconds first.
    pub fn most_wanted(self) -> [(Scarce, Stall); 3] {
        let mut all = [
            (Scarce::Memory, self.memory),
            (Scarce::Cpu, self.cpu),
            (Scarce::Io, self.io),
        ];
        all.sort_by_key(|(_, stall)| std::cmp::Reverse(stall.recent_hundredths));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::{Pressure, Scarce, Stall};

    #[test]
    fn the_kernels_lines_are_read() {
        let text = "some avg10=19.76 avg60=28.34 avg300=12.49 total=20481417855\n\
                    full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
        let expected = Stall {
            recent_hundredths: 1_976,
            total_micros: 20_481_417_855,
        };
        assert_eq!(Stall::parse(text), Some(expected));
        assert_eq!((expected.percent(), expected.is_noticeable()), (20, true));
        let all = Stall::parse("some avg10=100.00 avg60=0.00 total=7").expect("a line");
        assert_eq!((all.recent_hundredths, all.total_micros), (10_000, 7));
    }

    #[test]
    fn what_does_not_tell_is_absent() {
        for text in [
            "",
            "some",
            "full avg10=1.00 avg60=0.00 avg300=0.00 total=0",
            "some avg10=1 total=2",
            "some avg10=1.00 total=x",
            "some avg10=99999999999.00 total=1",
        ] {
            assert_eq!(Stall::parse(text), None, "{text}");
        }
        let some = |name| (name != "io").then(|| "some avg10=1.00 total=2".to_owned());
        assert_eq!(Pressure::parse(some), None);
    }

    #[test]
    fn the_most_wanted_comes_first() {
        let stall = |recent_hundredths| Stall {
            recent_hundredths,
            total_micros: 5,
        };
        let one = Pressure {
            cpu: stall(100),
            memory: stall(4_000),
            io: stall(0),
        };
        let other = Pressure {
            io: stall(9_000),
            ..Pressure::default()
        };
        assert_eq!(one.most_wanted()[0].0, Scarce::Memory);
        let both = one.joined(other);
        assert_eq!(
            both.most_wanted().map(|(what, _)| what.word()),
            ["disk", "memory", "cpu"]
        );
        assert_eq!(both.joined(other).io.total_micros, 15);
        assert_eq!(both.cpu, stall(100));
    }
}
