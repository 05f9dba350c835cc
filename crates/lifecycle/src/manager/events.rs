//! The site's history: numbered events with stable codes and a sentence each.

use super::site::{Entry, Site};
use crate::rows::SiteEvent;
use domain::{ArrayId, NodeId, Now, SessionId};

impl Site {
    /// Adds an event about a session in memory.
    pub(super) fn note_session(&mut self, id: SessionId, now: Now, code: &str, message: String) {
        let record = self.sessions.get(&id).map(|entry| &entry.record);
        let project = record.map(|record| record.owner.project.clone());
        let array = record.and_then(|record| record.array);
        let mut event = self.next_event(now, code, message);
        event.project = project;
        event.session = Some(id);
        event.array = array.map(|(array, _)| array);
        self.out.events.push(event);
    }

    /// Adds an event about an array in memory.
    pub(super) fn note_array(&mut self, id: ArrayId, now: Now, code: &str, message: String) {
        let entry = self.arrays.get(&id);
        let project = entry.map(|entry| entry.record.owner.project.clone());
        let mut event = self.next_event(now, code, message);
        event.project = project;
        event.array = Some(id);
        self.out.events.push(event);
    }

    /// Adds an event about a node, for operators.
    pub(super) fn note_node(&mut self, id: NodeId, now: Now, code: &str, message: String) {
        let mut event = self.next_event(now, code, message);
        event.node = Some(id);
        self.out.events.push(event);
    }

    /// Adds an event about the site, for operators.
    pub(super) fn note_site(&mut self, now: Now, code: &str, message: String) {
        let event = self.next_event(now, code, message);
        self.out.events.push(event);
    }

    /// Adds an event about something that is in a project and is neither session nor node.
    pub(super) fn note_project(&mut self, project: &str, now: Now, code: &str, message: String) {
        let mut event = self.next_event(now, code, message);
        event.project = Some(project.to_owned());
        self.out.events.push(event);
    }

    fn next_event(&mut self, now: Now, code: &str, message: String) -> SiteEvent {
        let number = self.row.next_event;
        self.row.next_event += 1;
        SiteEvent {
            number,
            at: now.wall,
            project: None,
            session: None,
            array: None,
            node: None,
            code: code.to_owned(),
            message,
        }
    }

    pub(super) fn entry_mut(&mut self, id: SessionId) -> &mut Entry {
        self.sessions
            .get_mut(&id)
            .expect("the caller has found it in memory")
    }
}
