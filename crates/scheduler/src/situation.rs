//! What the scheduler looks at. Borrowed, because a pass looks at everything and keeps nothing.

use domain::{NodeRecord, Priority, SessionId, Slots, Span};

/// A node and who has what of it.
#[derive(Clone, Debug)]
pub struct Node<'a> {
    /// What it offers and can do.
    pub record: &'a NodeRecord,
    /// Every member that has resources of it, unclaimed ones too.
    pub holdings: Vec<Holding<'a>>,
}

/// What one member has of a node.
#[derive(Clone, Copy, Debug)]
pub struct Holding<'a> {
    /// The member's session.
    pub session: SessionId,
    /// The session's name; its array's, if it is an element.
    pub name: &'a str,
    /// Its index, if it is an element of an array.
    pub index: Option<u32>,
    /// How much.
    pub slots: &'a Slots,
}

/// A session that waits to be placed.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Which.
    pub session: SessionId,
    /// Its name; its array's, if it is an element.
    pub name: &'a str,
    /// Its index, if it is an element of an array.
    pub index: Option<u32>,
    /// What each of its members needs.
    pub slots: &'a Slots,
    /// How many members, all placed or none; at least 1.
    pub members: u32,
    /// Rows of the capability table that a node must have, in order.
    pub required: Vec<&'static str>,
    /// Its priority. Requests come in the order of theirs: here it is only told.
    pub priority: Priority,
    /// How long it has waited.
    pub waited: Span,
}
