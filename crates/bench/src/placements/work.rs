//! Nodes and sessions, the same for the same numbers.

use domain::{
    AskedLimits, Capability, CommandUser, Network, NodeId, NodeLostPolicy, Owner, SessionId,
    SessionKind, SessionSpec, SlotName, Slots, StdinMode,
};
use lifecycle::manager::CreateRequest;
use node_api::{Hello, Report};
use std::collections::BTreeMap;

const GIB: u64 = 1 << 30;
/// One whole of every slot but memory.
const WHOLE: u64 = domain::amounts::WHOLE;
/// Devices of a node, where nodes have some.
const DEVICES: u64 = 8;
/// Ids of sessions ascend in time, as real ones do.
const FIRST_SESSION: u64 = 1 << 50;

/// What sessions ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One member each, CPUs and memory of several sizes.
    Plain,
    /// Also a part of an accelerator, in ten-thousandths; one session in ten has four or eight
    /// members, which are placed all or none.
    FractionalGangs,
}

impl Shape {
    /// By its name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "plain" => Some(Self::Plain),
            "fractional-gangs" => Some(Self::FractionalGangs),
            _ => None,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::FractionalGangs => "fractional-gangs",
        }
    }
}

/// How many of what.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Nodes of the site.
    pub nodes: u64,
    /// Sessions that are asked for.
    pub sessions: u64,
    /// What they ask for.
    pub shape: Shape,
    /// So many sessions fit on a node, and about half as many more.
    pub per_node: u64,
}

/// Sessions for which the smallest node is large enough.
const FEW: u64 = 10;

impl Work {
    /// What each node says of itself.
    pub fn hellos(self) -> impl Iterator<Item = Hello> {
        (1..=self.nodes).map(move |number| Hello {
            node: NodeId(number),
            name: format!("node-{number:06}"),
            pool: "default".to_owned(),
            offers: self.offers(),
            capabilities: capabilities(),
            site: None,
            obeyed: None,
        })
    }

    /// What each node tells once it has obeyed the first set: that it has nothing.
    pub fn report(node: NodeId, incarnation: u64, epoch: u64) -> Report {
        Report {
            node,
            sequence: 1,
            incarnation,
            epoch,
            generation: 1,
            members: Vec::new(),
            settled: Vec::new(),
        }
    }

    fn offers(self) -> Slots {
        let (cpus, memory) = match self.shape {
            Shape::Plain => (32, 128),
            Shape::FractionalGangs => (64, 512),
        };
        let times = self.per_node.div_ceil(FEW).max(1);
        let mut slots = Slots::of(times * cpus * WHOLE, times * memory * GIB);
        if self.shape == Shape::FractionalGangs {
            let name = SlotName("cuda.shares".to_owned());
            slots.0.insert(name, times * DEVICES * WHOLE);
        }
        slots
    }

    /// Every session, in the order in which they are asked for.
    pub fn requests(self) -> impl Iterator<Item = CreateRequest> {
        (0..self.sessions).map(move |number| CreateRequest {
            id: SessionId(FIRST_SESSION + (number << 24)),
            name: Some(format!("train-{number}").parse().expect("a name")),
            owner: Owner {
                domain: "local".to_owned(),
                project: "vision".to_owned(),
                user: format!("user-{}", mixed(number) % 50),
            },
            kind: SessionKind::Batch,
            spec: self.spec(number),
            priority: domain::Priority::USUAL,
            retry: 0,
            after: Vec::new(),
            idempotency: None,
        })
    }

    fn spec(self, number: u64) -> SessionSpec {
        let drawn = mixed(number);
        let pick = |of: &[u64], bits: u32| {
            let length = u64::try_from(of.len()).expect("it is small");
            of[usize::try_from((drawn >> bits) % length).expect("it is small")]
        };
        let cpu = pick(&[WHOLE / 2, WHOLE, 2 * WHOLE, 4 * WHOLE], 0);
        let mut slots = Slots::of(cpu, pick(&[1, 2, 4, 8], 8) * GIB);
        let mut members = 1;
        if self.shape == Shape::FractionalGangs {
            let shares = pick(&[1_000, 2_000, 2_500, 5_000, WHOLE], 16);
            slots.0.insert(SlotName("cuda.shares".to_owned()), shares);
            if drawn >> 24 & 0xff < 26 {
                members = if drawn >> 32 & 1 == 0 { 4 } else { 8 };
            }
        }
        SessionSpec {
            image: "host".to_owned(),
            imported: None,
            user: CommandUser::Ordinary,
            command: vec!["python3".to_owned(), "train.py".to_owned()],
            env: BTreeMap::from([("SEED".to_owned(), number.to_string())]),
            workdir: None,
            slots,
            pids_limit: 4_096,
            time_limit: None,
            network: Network::None,
            mounts: Vec::new(),
            upload: None,
            merge_output: false,
            stdin: StdinMode::Null,
            terminal: None,
            follower_expected: false,
            members,
            node_lost: NodeLostPolicy::Wait,
            best_effort: false,
            disk_limit: None,
            asked: AskedLimits::ALL,
        }
    }
}

/// Rows of the capability table as a node of the embedded engine has them.
fn capabilities() -> BTreeMap<String, Capability> {
    let rows = [
        "limit.cpu",
        "limit.memory",
        "limit.pids",
        "limit.disk",
        "network.none",
        "network.host",
        "network.egress",
        "mount.user",
        "root.layers",
        "pause",
        "architecture.amd64",
    ];
    rows.map(|row| (row.to_owned(), Capability::Yes)).into()
}

/// Bits that look drawn, by the finaliser of SplitMix64.
fn mixed(number: u64) -> u64 {
    let mut bits = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}
