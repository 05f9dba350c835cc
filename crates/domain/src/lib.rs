//! The nouns of Insula as types: ids, names, amounts, sessions, members, outcomes, nodes.
//!
//! Pure: no I/O, no clock, no randomness. Every other crate speaks in these words; what each
//! noun means to a user stands in `docs/vocabulary.md`.

pub mod amounts;
pub mod architecture;
pub mod array;
pub mod dependency;
pub mod duration;
pub mod ids;
pub mod image;
pub mod image_name;
pub mod member;
pub mod names;
pub mod node;
pub mod outcome;
pub mod pause;
pub mod pressure;
pub mod priority;
pub mod session;
pub mod specification;
pub mod terminal;
pub mod time;

pub use amounts::{ParseAmountError, SlotName, Slots};
pub use architecture::{ARCHITECTURE_ROWS, architecture_of, architecture_row};
pub use array::{ARRAY_LIMIT, ArrayRecord};
pub use dependency::{DEPENDENCY_LIMIT, Dependency, DependencyState, DependencyTarget, Need};
pub use duration::{ParseDurationError, Span};
pub use ids::{
    ArrayId, AttemptNumber, MemberId, NodeId, ParseIdError, SessionId, SiteId, UploadId,
};
pub use image::{Digest, ImageId, ParseDigestError};
pub use image_name::{HOST_IMAGE, ImageName, InvalidImageName};
pub use member::{
    ExitCause, ExitHow, ExitRecord, LimitsReached, MemberEvent, MemberState, OomEvidence,
};
pub use names::{InvalidName, SessionName};
pub use node::{Capability, DrainOrder, NodeRecord, NodeStatus, RemovalOrder};
pub use outcome::{Cause, FailedDependency, Outcome};
pub use pause::{MemberPause, PauseOrder};
pub use pressure::{Pressure, Scarce, Stall};
pub use priority::{InvalidPriority, Priority};
pub use session::{
    Intention, MemberRecord, Owner, PastAttempt, Retry, SessionKind, SessionRecord, SessionState,
    StopOrder,
};
pub use specification::{
    AskedLimits, CommandUser, ImportedImage, Mount, Network, NodeLostPolicy, SessionSpec, StdinMode,
};
pub use terminal::TerminalSize;
pub use time::{Monotonic, Now, Timestamp};
