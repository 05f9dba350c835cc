//! Which nodes are connected to a process of the manager, and since when.

use crate::clock::Micros;
use crate::manager::Manager;
use domain::NodeId;
use node_api::Hello;

/// A node that is, or was, connected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct There {
    pub(crate) since: Micros,
    pub(crate) left: Option<Micros>,
}

impl There {
    /// It had left before a batch that was made at `turned`.
    pub(crate) fn is_away(self, turned: Micros) -> bool {
        self.left.is_some_and(|left| left < turned)
    }
}

impl Manager {
    pub(crate) fn greet(&mut self, hello: &Hello, connection: u64, since: Micros) {
        let there = There { since, left: None };
        if self.connections.insert(hello.node, connection).is_none() {
            self.there.insert(hello.node, there);
        }
        self.hellos.insert(hello.node, hello.clone());
    }

    pub(crate) fn miss(&mut self, node: NodeId, now: Micros) {
        self.connections.remove(&node);
        self.hellos.remove(&node);
        let there = self.there.get_mut(&node);
        there.expect("it was connected").left = Some(now);
    }
}
