//! How a simulated container lives and ends.

use crate::container::ContainerSpec;
use crate::engine::Usage;
use domain::{ExitCause, ExitHow, OomEvidence, Pressure};

/// Says how each container lives.
pub trait Script: Send + Sync + std::fmt::Debug {
    /// The life of this container; the same each time it is asked.
    fn life(&self, container: &ContainerSpec) -> Life;
}

/// One life: how long, how it ends, what it uses meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// The engine fails to start it, with this reason.
    pub refused: Option<String>,
    /// Microseconds from the start to the end; `None`: until somebody ends it.
    pub lasts_micros: Option<u64>,
    /// How it ends by itself.
    pub ending: Ending,
    /// What it uses while it lives; CPU time grows from there.
    pub usage: Usage,
    /// How fast CPU time grows, in ten-thousandths of a CPU.
    pub cpu: u64,
    /// While it lives it writes a line, its number, each time so many microseconds have passed.
    pub line_every_micros: Option<u64>,
}

/// How a life ends by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// What the kernel says of the command.
    pub how: ExitHow,
    /// What made it end.
    pub cause: ExitCause,
    /// Kills by the memory limit that the kernel counted.
    pub out_of_memory: Option<OomEvidence>,
    /// What it wrote.
    pub output: Output,
}

/// What a command wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// To its standard output.
    pub stdout: Vec<u8>,
    /// To its standard error.
    pub stderr: Vec<u8>,
}

impl Life {
    /// Runs until somebody ends it.
    pub fn forever() -> Self {
        Self {
            refused: None,
            lasts_micros: None,
            ending: Ending::exit(0),
            usage: Usage {
                pids: 2,
                pressure: Some(Pressure::default()),
                ..Usage::default()
            },
            cpu: 0,
            line_every_micros: None,
        }
    }

    /// Runs for so long and exits with `code`.
    pub fn exits(after_micros: u64, code: u8) -> Self {
        Self {
            lasts_micros: Some(after_micros),
            ending: Ending::exit(code),
            ..Self::forever()
        }
    }
}

impl Ending {
    /// The command exits with `code` and wrote nothing.
    pub fn exit(code: u8) -> Self {
        Self {
            how: ExitHow::Exited { code },
            cause: ExitCause::Own,
            out_of_memory: None,
            output: Output::default(),
        }
    }
}

/// The script by which all live alike.
impl Script for Life {
    fn life(&self, _: &ContainerSpec) -> Life {
        self.clone()
    }
}
