//! What a name means: a session, an element of an array (`NAME.INDEX`), or an array.

use crate::daemon::Site;
use crate::failure::Failure;
use public_api::{ArrayView, ProblemCode, SessionView};

/// A session, or an array.
#[derive(Debug)]
pub(crate) enum Named {
    /// A session, which may be an element of an array.
    Session(Box<SessionView>),
    /// An array.
    Array(Box<ArrayView>),
}

impl Named {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Session(session) => &session.name,
            Self::Array(array) => &array.name,
        }
    }

    /// What `name`, which may be an id, means. Among living things a name means one; else the
    /// newest of those that had it.
    pub(crate) async fn find(site: &Site, name: &str) -> Result<Self, Failure> {
        let session = match site.call(async |client| client.session(name).await).await {
            Ok(session) if session.outcome.is_none() => {
                return Ok(Self::Session(Box::new(session)));
            }
            Ok(session) => Ok(session),
            Err(failure) if failure.code() == Some(ProblemCode::NoSuchSession) => Err(failure),
            Err(failure) => return Err(failure),
        };
        let array = match site.call(async |client| client.array(name).await).await {
            Ok(array) => Some(array),
            // A name with a dot in it is none of an array.
            Err(failure) if failure.code().is_some() => None,
            Err(failure) => return Err(failure),
        };
        match (session, array) {
            (Ok(session), Some(array)) if is_older(&session, &array) => {
                Ok(Self::Array(Box::new(array)))
            }
            (Ok(session), _) => Ok(Self::Session(Box::new(session))),
            (Err(_), Some(array)) => Ok(Self::Array(Box::new(array))),
            (Err(failure), None) => Err(failure),
        }
    }
}

/// Instants on the wire are all of the same zone, but not of the same length.
fn is_older(session: &SessionView, array: &ArrayView) -> bool {
    let instant = |text: &str| text.parse::<jiff::Timestamp>().ok();
    array.living > 0 || instant(&session.created_at) < instant(&array.created_at)
}
