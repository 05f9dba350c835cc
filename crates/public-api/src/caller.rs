//! Who makes a request.

/// The authenticated caller. On a local site that is the user of the machine who owns the
/// socket's other end, or whoever has the site's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Their domain.
    pub domain: String,
    /// The project they act in.
    pub project: String,
    /// Their user name.
    pub user: String,
    /// Their user id on this machine, where known: `--mount` is only for the daemon's own uid.
    pub uid: Option<u32>,
    /// They may see and do everything on this site.
    pub operator: bool,
}
