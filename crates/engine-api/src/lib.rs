//! The contract between an agent and an engine: what runs containers on a node.
//!
//! An engine only has to get the guest running in a container and keep it within its limits; what
//! users see inside (output, input, signals, files, the exit record) is the guest's work, so every
//! feature works on every engine. The agent prepares images and directories and hands the engine
//! a root ([`ContainerSpec`]).
//!
//! [`conformance`] holds the cases that every engine must pass; [`simulated`] is an engine without
//! containers, for tests and the simulation.

pub mod capability;
pub mod conformance;
pub mod container;
pub mod engine;
pub mod layout;
pub mod simulated;

pub use capability::{CAPABILITIES, CapabilityRow, Fingerprint};
pub use container::{Bind, BindOwner, ContainerSpec, GuestSpec, Limits, RootSpec, UidRange};
pub use engine::{Engine, EngineError, Found, Pause, RemoveReport, StartError, Started, Usage};
