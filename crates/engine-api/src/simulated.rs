//! An engine without containers: lives follow a script, and time passes when it is told to.
//!
//! Pure: no I/O, no clock, no runtime. Tests of agents and the simulation of whole sites drive it:
//! [`SimulatedEngine::advance`] lets time pass, and lives end when their scripts say so. What a
//! guest would leave on the disk ([`SimulatedEngine::record`], [`SimulatedEngine::output`]) is
//! kept in memory and outlives the removal of the container, as files would.

mod life;
mod state;
mod waiting;

use crate::capability::{CAPABILITIES, Fingerprint};
use crate::container::ContainerSpec;
use crate::engine::{Engine, EngineError, Found, RemoveReport, StartError, Started, Usage};
use async_trait::async_trait;
use domain::{Capability, ExitRecord, MemberId, Timestamp};
use state::State;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use waiting::Waiting;

pub use life::{Ending, Life, Output, Script};

/// The number of the signal that ends a container at once.
const SIGKILL: i32 = 9;

/// An engine whose containers are scripted.
#[derive(Debug)]
pub struct SimulatedEngine {
    script: Box<dyn Script>,
    state: Mutex<State>,
}

impl SimulatedEngine {
    /// An engine that can do everything, whose containers live as `script` says, from `start` on.
    pub fn new(script: impl Script + 'static, start: Timestamp) -> Self {
        let rows = CAPABILITIES.iter();
        let fingerprint = Fingerprint {
            version: "simulated".to_owned(),
            capabilities: rows
                .map(|row| (row.name.to_owned(), Capability::Yes))
                .collect(),
        };
        Self {
            script: Box::new(script),
            state: Mutex::new(State::new(fingerprint, start)),
        }
    }

    /// Takes a row of the capability table away.
    pub fn lack(&self, row: &str, reason: &str) {
        let no = Capability::No {
            reason: reason.to_owned(),
        };
        self.state()
            .fingerprint
            .capabilities
            .insert(row.to_owned(), no);
    }

    /// Lets `micros` pass: lives that are over by then end at their own moments.
    pub fn advance(&self, micros: u64) {
        self.state().advance(micros);
    }

    /// Ends the guest of `member` without a record, as a kill from outside does.
    pub fn kill_guest(&self, member: MemberId) {
        self.state().end(member, None);
    }

    /// Everything that runs is gone, without records; what is on the disk stays.
    pub fn reboot(&self) {
        self.state().reboot();
    }

    /// The next call fails as if the engine's helper process were gone.
    pub fn lose_launcher(&self) {
        self.state().launcher_gone = true;
    }

    /// The record that the guest of `member` left.
    pub fn record(&self, member: MemberId) -> Option<ExitRecord> {
        self.state()
            .left
            .get(&member)
            .map(|left| left.record.clone())
    }

    /// What the command of `member` has written, so far or until it ended.
    pub fn output(&self, member: MemberId) -> Option<Output> {
        self.state().output(member)
    }

    /// How often a container of `member` was really started. More than once is a fault of the
    /// agent or the engine.
    pub fn starts(&self, member: MemberId) -> u32 {
        self.state().starts.get(&member).copied().unwrap_or(0)
    }

    /// Forgets what the guest of `member` left, as the removal of its directory does.
    pub fn forget(&self, member: MemberId) {
        self.state().left.remove(&member);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nobody panics while holding the lock")
    }

    /// The state, unless the next call is to fail.
    fn call(&self) -> Result<MutexGuard<'_, State>, EngineError> {
        let mut state = self.state();
        if std::mem::take(&mut state.launcher_gone) {
            return Err(EngineError::LauncherGone);
        }
        Ok(state)
    }
}

#[async_trait]
impl Engine for SimulatedEngine {
    fn name(&self) -> &'static str {
        "simulated"
    }

    async fn fingerprint(&self) -> Result<Fingerprint, EngineError> {
        Ok(self.call()?.fingerprint.clone())
    }

    async fn start(&self, container: &ContainerSpec) -> Result<Started, StartError> {
        let life = self.script.life(container);
        self.call()?.start(container, life)
    }

    async fn list(&self) -> Result<Vec<Found>, EngineError> {
        Ok(self.call()?.list())
    }

    async fn signal(&self, member: MemberId, signal: i32) -> Result<(), EngineError> {
        let mut state = self.call()?;
        if signal == SIGKILL {
            state.end(member, None);
        }
        Ok(())
    }

    async fn remove(&self, member: MemberId, _: &Path) -> Result<RemoveReport, EngineError> {
        Ok(self.call()?.remove(member))
    }

    async fn pause(&self, member: MemberId) -> Result<(), EngineError> {
        self.call()?.pause(member)
    }

    async fn resume(&self, member: MemberId) -> Result<(), EngineError> {
        self.call()?.resume(member)
    }

    /// Made in name only: scripts say what a full one is like, and nothing is there to be opened.
    fn make_disk(&self, _: &Path, _: u64) -> Result<bool, EngineError> {
        let state = self.call()?;
        let row = state.fingerprint.capabilities.get("disk.own");
        Ok(row == Some(&Capability::Yes))
    }

    async fn usage(&self, member: MemberId) -> Result<Usage, EngineError> {
        self.call()?.usage(member)
    }

    async fn wait(&self, member: MemberId, _: &Path) -> Result<(), EngineError> {
        drop(self.call()?);
        Waiting {
            engine: self,
            member,
        }
        .await;
        Ok(())
    }
}
