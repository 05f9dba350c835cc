//! What the service shows.

use super::Fake;
use public_api::{ArrayView, KindView, NetworkView, ResourcesView, SessionView};
use std::collections::BTreeMap;

impl Fake {
    #[allow(clippy::unused_self, reason = "it stands beside `view`")]
    pub(super) fn array_view(&self, array: &str) -> ArrayView {
        ArrayView {
            id: array.to_owned(),
            name: "a".to_owned(),
            domain: "default".to_owned(),
            project: "default".to_owned(),
            user: "ann".to_owned(),
            size: 3,
            throttle: Some(2),
            priority: 50,
            retry: 0,
            living: 3,
            paused: 0,
            states: [("pending".to_owned(), 3)].into(),
            outcomes: BTreeMap::new(),
            first_index: 1,
            last_index: 3,
            parameters: Vec::new(),
            image: "host".to_owned(),
            command: vec!["true".to_owned()],
            resources: ResourcesView {
                cpu: "1".to_owned(),
                memory_bytes: 1 << 30,
                pids: 4096,
                disk_bytes: None,
            },
            created_at: "2026-01-01T00:00:00Z".to_owned(),
            ended_at: None,
        }
    }

    pub(super) fn view(&self, session: &str) -> SessionView {
        SessionView {
            id: session.to_owned(),
            name: "a".to_owned(),
            kind: KindView::Batch,
            domain: "default".to_owned(),
            project: "default".to_owned(),
            user: "ann".to_owned(),
            array: None,
            array_index: None,
            state: (*self.state.lock().expect("no test panics with it")).to_owned(),
            priority: 50,
            paused: None,
            resuming: false,
            removing: false,
            outcome: None,
            image_id: None,
            run_as: "1000".to_owned(),
            image: "host".to_owned(),
            command: vec!["true".to_owned()],
            workdir: "/work".to_owned(),
            resources: ResourcesView {
                cpu: "1".to_owned(),
                memory_bytes: 1 << 30,
                pids: 4096,
                disk_bytes: None,
            },
            network: NetworkView::None,
            mounts: Vec::new(),
            time_limit_ms: None,
            merge: false,
            stdin: false,
            terminal: false,
            attempt: 1,
            retry: 0,
            retries_left: 0,
            retry_at: None,
            attempts: Vec::new(),
            after: Vec::new(),
            not_enforced: Vec::new(),
            disk_measured: false,
            members: Vec::new(),
            created_at: "2026-01-01T00:00:00Z".to_owned(),
            started_at: None,
            ended_at: None,
        }
    }
}
