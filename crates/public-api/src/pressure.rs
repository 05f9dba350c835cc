//! What sessions and nodes wait for.

use domain::{Pressure, Stall};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How much of the time processes wait, because there is not enough of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PressureView {
    /// For a CPU, or for the next share of a limited one.
    pub cpu: StallView,
    /// For memory: to be given back, read again or made room for.
    pub memory: StallView,
    /// For a disk.
    pub io: StallView,
}

/// How long at least one process waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StallView {
    /// The share of the last 10 seconds, in hundredths of a percent: at most 10,000.
    pub recent_hundredths: u32,
    /// All of it so far, in microseconds.
    pub total_micros: u64,
}

impl From<Pressure> for PressureView {
    fn from(pressure: Pressure) -> Self {
        let Pressure { cpu, memory, io } = pressure;
        Self {
            cpu: cpu.into(),
            memory: memory.into(),
            io: io.into(),
        }
    }
}

impl From<PressureView> for Pressure {
    fn from(view: PressureView) -> Self {
        let PressureView { cpu, memory, io } = view;
        Self {
            cpu: cpu.into(),
            memory: memory.into(),
            io: io.into(),
        }
    }
}

impl From<Stall> for StallView {
    fn from(stall: Stall) -> Self {
        let Stall {
            recent_hundredths,
            total_micros,
        } = stall;
        Self {
            recent_hundredths,
            total_micros,
        }
    }
}

impl From<StallView> for Stall {
    fn from(view: StallView) -> Self {
        let StallView {
            recent_hundredths,
            total_micros,
        } = view;
        Self {
            recent_hundredths,
            total_micros,
        }
    }
}
