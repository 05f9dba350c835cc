//! The public API: its types as they stand on the wire, its error codes, and the service trait
//! that whoever serves it implements.
//!
//! HTTP/JSON under `/api/v1`. Errors are problem+json ([`Problem`], RFC 9457) with a stable code
//! and a hint. These types are neither the domain's nor the store's: they are converted by hand at
//! the border, so that either side can change without the other.

pub mod arrays;
pub mod caller;
pub mod events;
pub mod fuzzing;
pub mod images;
pub mod log_frames;
pub mod nodes;
mod object;
pub mod pauses;
mod pressure;
mod priorities;
pub mod problem;
pub mod processes;
pub mod service;
pub mod sessions;
pub mod site;
pub mod usage;
pub mod why;

pub use arrays::{
    ArrayPage, ArrayQuery, ArrayView, CreateArray, CreateElement, CreatedArray, ElementPage,
    ElementQuery, ElementView, ThrottleOrder,
};
pub use caller::Caller;
pub use events::{EventPage, EventPageQuery, EventQuery, PublicEvent, SentEvent};
pub use images::{
    DroppedView, ImageListView, ImageSettingsView, ImageView, ImportQuery, ImportedView, LayerView,
    RemovedImagesView,
};
pub use log_frames::{
    LOG_CONTENT_TYPE, LogFrame, LogFrameDecoder, encode_log_frame, log_frame_parts,
};
pub use nodes::{CapabilityView, DrainNode, DrainedView, NodeView, RemoveNodeQuery, UnclaimedView};
pub use pauses::{Hold, HoldOrder, PausedView};
pub use pressure::{PressureView, StallView};
pub use priorities::{PRIORITY_LIMIT, PriorityOrder, USUAL_PRIORITY};
pub use problem::{Problem, ProblemCode};
pub use processes::{
    AcceptedView, AttachOrder, ClientMessage, ExecOrder, GapView, INPUT_LIMIT_BYTES,
    INPUT_WINDOW_BYTES, JoinedView, PROCESS_MESSAGE_LIMIT, PROCESS_PROTOCOL, ProcessControl,
    ProcessEnd, ProcessEvent, ProcessMessageError, ServerMessage, TerminalView,
};
pub use service::{
    ByteStream, ClientMessageStream, EventStream, LogFrameStream, LogOutput, ServerMessageStream,
    Service,
};
pub use sessions::{
    AfterNeed, AfterOrder, AfterView, AttemptView, ChangeSession, CreateSession, Created,
    FilesQuery, KindView, ListQuery, LogQuery, MemberView, MountView, NetworkView, OutcomeView,
    OutputStream, RemoveQuery, ResourcesView, SessionPage, SessionView, SignalOrder, StdinQuery,
    StdinView, StopSession, UploadView, UsageView,
};
pub use site::{Build, ShutdownMode, ShutdownOrder, ShutdownView, SiteView};
pub use usage::{NodeUsageView, SessionUsageView, SiteUsageView};
pub use why::{NodeReason, Why, WhyReason};

/// Path under which everything is served.
pub const PREFIX: &str = "/api/v1";
/// Header with the number of the last commit an answer shows; a client that sends it back reads
/// at least that commit.
pub const COMMIT_HEADER: &str = "insula-commit";
/// Header that makes a creation happen once, however often it is sent.
pub const IDEMPOTENCY_HEADER: &str = "idempotency-key";
/// Header of an answer with output: the attempt whose it is.
pub const ATTEMPT_HEADER: &str = "insula-attempt";
/// Most elements of an array.
pub const ARRAY_LIMIT: usize = 10_000;
/// Most further attempts that a session may be given for those that fail.
pub const RETRY_LIMIT: u32 = 20;
/// Most sessions and arrays that one session may wait for.
pub const AFTER_LIMIT: usize = 100;
/// Largest upload, in bytes. A site looks after its disk besides.
pub const UPLOAD_LIMIT_BYTES: u64 = 64 << 30;
/// Largest archive of an image, in bytes.
pub const IMAGE_LIMIT_BYTES: u64 = 64 << 30;
/// Largest piece of standard input in one request, in bytes.
pub const STDIN_LIMIT_BYTES: usize = 256 << 10;
/// Most sessions on one page.
pub const PAGE_LIMIT: u32 = 500;
