//! The site, its nodes, events and idempotency keys: what is put is what is loaded.

use super::Place;
use crate::store::EventScope;
use domain::{
    ArrayId, Capability, DrainOrder, NodeId, NodeRecord, NodeStatus, RemovalOrder, SessionId,
    SiteId, SlotName, Slots, Timestamp,
};
use lifecycle::rows::{IdempotencyRow, Loaded, RowChange, SiteEvent, SiteRow};

const ALWAYS: Timestamp = Timestamp(0);

fn node(id: u64, status: NodeStatus) -> NodeRecord {
    let no = Capability::No {
        reason: "not here".into(),
    };
    NodeRecord {
        id: NodeId(id),
        name: "laptop".into(),
        pool: "default".into(),
        offers: Slots([(SlotName::cpu(), 20_000)].into()),
        capabilities: [
            ("limit.cpu".into(), Capability::Yes),
            ("limit.pids".into(), no),
        ]
        .into(),
        status,
        generation: 3,
        heard_in: 2,
        drain: None,
        removal: None,
    }
}

pub(crate) fn orders_of_nodes_come_back(place: &dyn Place) {
    let mut store = place.open();
    let put = |node: &NodeRecord| RowChange::PutNode {
        node: Box::new(node.clone()),
    };
    let taken_back = node(6, NodeStatus::Connected);
    let (by, at, reason, lost) = (
        "ann".to_owned(),
        Timestamp(7),
        "a new disk".to_owned(),
        true,
    );
    let removal = Some(RemovalOrder {
        by: by.clone(),
        at,
        lost,
    });
    let removed = NodeRecord {
        removal,
        ..node(5, NodeStatus::Disconnected)
    };
    let drain = Some(DrainOrder { by, at, reason });
    let drained = NodeRecord {
        drain,
        ..node(4, NodeStatus::Connected)
    };
    let before = NodeRecord {
        drain: drained.drain.clone(),
        ..taken_back.clone()
    };
    let nodes = vec![drained, removed, taken_back];
    let batch: Vec<RowChange> = [before].iter().chain(&nodes).map(put).collect();
    assert_eq!(store.commit(&batch).expect("committed"), 1);
    assert_eq!(store.load(ALWAYS, ALWAYS).expect("loaded").nodes, nodes);
}

pub(crate) fn site_nodes_and_keys_come_back(place: &dyn Place) {
    let mut store = place.open();
    let site = SiteRow {
        id: SiteId(5),
        incarnation: 1,
        epoch: 0,
        next_event: 1,
        restored_epoch: 0,
    };
    let nothing = Loaded {
        site: site.clone(),
        restored: None,
        sessions: Vec::new(),
        arrays: Vec::new(),
        nodes: Vec::new(),
        idempotency: Vec::new(),
        images: Vec::new(),
        image_names: Vec::new(),
        uploads: Vec::new(),
    };
    assert_eq!(store.load(ALWAYS, ALWAYS).expect("loaded"), nothing);
    let site = SiteRow {
        epoch: 4,
        next_event: 12,
        restored_epoch: 3,
        ..site
    };
    let key = IdempotencyRow {
        user: "ann".into(),
        key: "k".into(),
        digest: "d".into(),
        session: SessionId(1),
        array: Some(ArrayId(2)),
        at: Timestamp(100),
    };
    let put_node = |id, status| RowChange::PutNode {
        node: Box::new(node(id, status)),
    };
    let batch = vec![
        RowChange::PutSite { site: site.clone() },
        put_node(1, NodeStatus::Connected),
        put_node(2, NodeStatus::Connected),
        put_node(2, NodeStatus::Disconnected),
        put_node(3, NodeStatus::Connected),
        RowChange::DeleteNode { node: NodeId(3) },
        RowChange::PutIdempotencyKey { key: key.clone() },
    ];
    assert_eq!(store.commit(&batch).expect("committed"), 1);
    let nodes = vec![
        node(1, NodeStatus::Connected),
        node(2, NodeStatus::Disconnected),
    ];
    let expect = Loaded {
        site,
        nodes,
        idempotency: vec![key],
        ..nothing
    };
    assert_eq!(store.load(ALWAYS, Timestamp(100)).expect("loaded"), expect);
    assert!(
        store
            .load(ALWAYS, Timestamp(101))
            .expect("loaded")
            .idempotency
            .is_empty()
    );
}

pub(crate) fn events_come_back_after_a_number(place: &dyn Place) {
    use EventScope::All;
    let mut store = place.open();
    let event = |number, session: Option<SessionId>, node| SiteEvent {
        number,
        at: Timestamp(6),
        project: session.map(|_| "default".to_owned()),
        session,
        array: session.map(|_| ArrayId(9)),
        node,
        code: "a.b".into(),
        message: "it happened".into(),
    };
    let events = vec![
        event(1, Some(SessionId(1)), None),
        event(2, None, Some(NodeId(1))),
    ];
    let batch: Vec<_> = events
        .iter()
        .cloned()
        .map(|event| RowChange::AddEvent { event })
        .collect();
    store.commit(&batch).expect("committed");
    assert_eq!(store.events(All, 0, 10).expect("read"), events);
    assert_eq!(store.events(All, 1, 10).expect("read"), events[1..]);
    assert_eq!(store.events(All, 0, 1).expect("read"), events[..1]);
    assert!(store.events(All, u64::MAX, 10).expect("read").is_empty());
    for scope in [
        |id| EventScope::Session(SessionId(id)),
        |id| EventScope::Array(ArrayId(id + 8)),
    ] {
        let mut of = |id, after| store.events(scope(id), after, 10).expect("read");
        assert_eq!(of(1, 0), events[..1]);
        assert!(of(1, 1).is_empty() && of(2, 0).is_empty());
    }
    let mut first = |at| store.first_event_since(Timestamp(at)).expect("read");
    assert_eq!((first(6), first(7)), (Some(1), None));
}
