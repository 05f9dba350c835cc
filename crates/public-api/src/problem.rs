//! Errors as users get them: a stable code, what happened, and what to do.

use serde::{Deserialize, Serialize};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal, $title:literal;)*) => {
        /// Every error code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum ProblemCode {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
        }

        impl ProblemCode {
            /// All codes, for tests and documents.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The code as it stands on the wire.
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// The HTTP status.
            pub fn status(self) -> u16 {
                match self { $(Self::$name => $status),* }
            }

            /// A short title, the same for every problem of this code.
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title),* }
            }
        }
    };
}

codes! {
    /// The request is not of the right form.
    InvalidRequest = "invalid-request", 400, "The request is not valid";
    /// A field has a value that cannot be used.
    InvalidField = "invalid-field", 422, "A field has a value that cannot be used";
    /// The caller is not known.
    Unauthenticated = "unauthenticated", 401, "Who are you?";
    /// The caller may not do this.
    Forbidden = "forbidden", 403, "Not allowed";
    /// There is no such session, or it is someone else's.
    NoSuchSession = "no-such-session", 404, "No such session";
    /// There is no such array, or it is someone else's.
    NoSuchArray = "no-such-array", 404, "No such array";
    /// No node has such a member that no session claims.
    NoSuchMember = "no-such-member", 404, "No such member";
    /// There is no such route.
    NoSuchRoute = "no-such-route", 404, "No such route";
    /// The route exists, but not with this method.
    MethodNotAllowed = "method-not-allowed", 405, "Not with this method";
    /// There is no such node.
    NoSuchNode = "no-such-node", 404, "No such node";
    /// More than one node has the name.
    AmbiguousNode = "ambiguous-node", 409, "More than one node has this name";
    /// The node is connected, or may run something.
    NodeInUse = "node-in-use", 409, "The node is in use";
    /// There is no such file.
    NoSuchFile = "no-such-file", 404, "No such file";
    /// There is no such upload.
    NoSuchUpload = "no-such-upload", 404, "No such upload";
    /// There is no such image.
    NoSuchImage = "no-such-image", 404, "No such image";
    /// The archive is not taken as an image.
    ImageRefused = "image-refused", 422, "The image is refused";
    /// Living sessions run on the image.
    ImageInUse = "image-in-use", 409, "The image is in use";
    /// More than one image has an id that begins so.
    AmbiguousImage = "ambiguous-image", 409, "More than one image is meant";
    /// No node runs programs of the image's architecture.
    WrongArchitecture = "wrong-architecture", 422, "The image is for another architecture";
    /// More than one session has the name.
    AmbiguousName = "ambiguous-name", 409, "More than one session has this name";
    /// A living session has the name.
    NameTaken = "name-taken", 409, "The name is taken";
    /// The idempotency key was used for another request.
    IdempotencyKeyReused = "idempotency-key-reused", 422, "The idempotency key was used for another request";
    /// The session is not in a state for this.
    WrongState = "wrong-state", 409, "The session is not in a state for this";
    /// No node could ever satisfy an amount.
    NeverFits = "never-fits", 422, "No node could ever give this much";
    /// A limit that was asked for cannot be enforced.
    NotEnforceable = "not-enforceable", 422, "A limit cannot be enforced";
    /// A node of the session cannot do what is asked.
    NotSupported = "not-supported", 422, "The node cannot do this";
    /// A path of the node cannot be shown inside.
    MountRefused = "mount-refused", 422, "The path cannot be mounted";
    /// A path leads out of where it may.
    PathRefused = "path-refused", 422, "The path is not allowed";
    /// The body is too large.
    TooLarge = "too-large", 413, "The body is too large";
    /// Sessions live, so the site does not go down.
    SessionsLive = "sessions-live", 409, "Sessions are still running";
    /// The disk has no room for new work.
    DiskFull = "disk-full", 507, "The disk is full";
    /// The site keeps as many sessions as it can.
    SiteFull = "site-full", 503, "The site is full";
    /// Another manager leads the site; this one stands by.
    StandingBy = "standing-by", 503, "Another manager leads";
    /// The site is starting or going down.
    Unavailable = "unavailable", 503, "The site is not ready";
    /// The node of the session does not answer.
    NodeUnreachable = "node-unreachable", 503, "The node does not answer";
    /// Too many requests of this kind wait.
    Busy = "busy", 429, "Too many requests wait";
    /// Insula failed.
    Internal = "internal", 500, "Insula failed";
}

/// An error, as `application/problem+json` (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{detail}")]
pub struct Problem {
    /// `urn:insula:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code's title.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The stable code.
    pub code: ProblemCode,
    /// What happened to what, in one sentence.
    pub detail: String,
    /// What to do about it.
    pub hint: String,
    /// Names this request in the logs. A boxed text, since problems stand in every result and are
    /// to stay below 128 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Box<str>>,
}

/// By hand: the derived one would tell the names in the code instead of those on the wire.
impl PartialSchema for ProblemCode {
    fn schema() -> RefOr<Schema> {
        let codes = Self::ALL.iter().map(|code| code.text());
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("Every error code."))
            .enum_values(Some(codes))
            .build()
            .into()
    }
}

impl ToSchema for ProblemCode {}

impl Problem {
    /// A problem with the code's usual hint.
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:insula:problem:{}", code.text()),
            title: code.title().to_owned(),
            status: code.status(),
            code,
            detail: detail.into(),
            hint: code.usual_hint().to_owned(),
            request_id: None,
        }
    }

    /// The same problem with a hint of its own.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}

impl ProblemCode {
    /// What usually helps.
    pub fn usual_hint(self) -> &'static str {
        match self {
            Self::InvalidRequest => {
                "compare the request with the API description at /api/v1/openapi.json"
            }
            Self::InvalidField => "correct the field and send the request again",
            Self::Unauthenticated => {
                "send the site's key as a bearer token, or use the Unix socket"
            }
            Self::Forbidden => "ask the operator of the site",
            Self::NoSuchSession => "`insula ls --all` lists your sessions",
            Self::NoSuchArray => "`insula ls --all` lists your arrays",
            Self::NoSuchMember => "`insula unclaimed` lists the members that no session claims",
            Self::NoSuchRoute => "compare the path with /api/v1/openapi.json",
            Self::MethodNotAllowed => {
                "the header `allow` names the methods; /api/v1/openapi.json describes them"
            }
            Self::NoSuchNode => "`insula node ls` lists the nodes",
            Self::AmbiguousNode => "use the node's id instead; `insula node ls` shows it",
            Self::NodeInUse => "drain the node, and wait until what runs there has ended",
            Self::NoSuchFile => "without a path everything comes: look there for what you miss",
            Self::NoSuchUpload => "send the upload again and name its new id",
            Self::NoSuchImage => {
                "`insula image ls` lists the images; `insula image import` makes one"
            }
            Self::ImageRefused => "make the archive anew with a tool that you trust",
            Self::ImageInUse => "stop these sessions first, or wait for their end",
            Self::AmbiguousImage => "write more of the id",
            Self::WrongArchitecture => "import the image for the architecture of the nodes",
            Self::AmbiguousName => "use the session's id instead; `insula ls --all` shows it",
            Self::NameTaken => "choose another name, or remove the session that has it",
            Self::IdempotencyKeyReused => "use a new key for a new request",
            Self::WrongState => "`insula ls --all` tells how your sessions are",
            Self::NeverFits => "ask for no more than the largest node offers",
            Self::NotEnforceable => {
                "`insula doctor` tells what would change it; --best-effort accepts it"
            }
            Self::NotSupported => "`insula doctor` tells what each node can do, and why not more",
            Self::MountRefused => "use --upload PATH to send a copy instead",
            Self::PathRefused => "use a path beneath the session's working directory",
            Self::TooLarge => "send less, or mount the directory with --mount",
            Self::SessionsLive => "`insula down --stop` stops them, `--leave` leaves them running",
            Self::DiskFull => "free space on the site's disk; `insula rm` removes ended sessions",
            Self::SiteFull => "remove ended sessions with `insula rm`",
            Self::StandingBy => {
                "ask the one that leads; this one takes over when that one is gone for some seconds"
            }
            Self::Unavailable => "try again in a moment; `insula doctor` tells more",
            Self::NodeUnreachable => "try again in a moment; the session runs on",
            Self::Busy => "wait a moment and try again",
            Self::Internal => "look at the site's log; its path stands in `insula doctor`",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Problem, ProblemCode};

    #[test]
    fn a_problem_is_small_enough_for_results() {
        assert!(size_of::<Problem>() < 128, "{}", size_of::<Problem>());
    }

    #[test]
    fn every_code_has_its_own_text_and_a_hint() {
        let mut texts = std::collections::BTreeSet::new();
        for code in ProblemCode::ALL {
            assert!(texts.insert(code.text()), "{code:?} shares its text");
            assert!(!code.usual_hint().is_empty() && (400..600).contains(&code.status()));
        }
    }
}
