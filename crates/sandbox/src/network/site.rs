//! What a site changes on its node for the network `egress`, and takes back.
//!
//! What was changed stands in a file before it is changed, so that whoever comes after a process
//! that was killed knows it. Everything here can be done again at any time.

use super::devices::{self, Ways, forwarding_file, forwards};
use super::dns::Forwarder;
use super::firewall::{Firewall, FirewallError};
use super::range::{NoRange, choose};
use super::resolvers::Resolvers;
use super::rules::{Wanted, script};
use super::{DEVICE_PREFIX, EgressSettings, Ipv4Range, WayOut, gateway, site_tag};
use crate::netlink::Netlink;
use domain::MemberId;
use process::{Durability, write_file_atomic};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The file that remembers what was changed, beside the guests' sockets.
const STATE_FILE: &str = "network.json";
/// For so long the node is taken to be as it was when it was last looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// The network of a site could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    #[error("the kernel does not tell of its devices and routes")]
    Devices {
        #[source]
        source: Errno,
    },
    #[error(transparent)]
    Range(#[from] NoRange),
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    #[error("{path} cannot be written")]
    State {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("forwarding cannot be switched on: {path} cannot be written")]
    Forwarding {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error(
        "a firewall of this node drops what is forwarded (chain {chain}): let it accept from and \
         to the devices `{DEVICE_PREFIX}*`"
    )]
    Obstacle { chain: String },
}

fn asking(source: Errno) -> NetworkError {
    NetworkError::Devices { source }
}

/// What is remembered across processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    range: Ipv4Range,
    /// Devices whose forwarding was off before.
    #[serde(default)]
    switched_on: BTreeSet<String>,
}

/// What this process has put in place.
#[derive(Debug)]
struct Applied {
    wanted: Wanted,
    way_out: WayOut,
    at: Instant,
    _forwarder: Option<Forwarder>,
}

/// The network of one site's containers.
#[derive(Debug)]
pub(crate) struct SiteNetwork {
    settings: EgressSettings,
    tag: String,
    state_file: PathBuf,
    applied: Mutex<Option<Applied>>,
    /// Held by every start that has a way out and no device yet.
    starting: Arc<()>,
}

/// While it is held, rules and forwarding stay.
#[derive(Debug)]
pub(crate) struct Connecting {
    _held: Arc<()>,
}

impl SiteNetwork {
    /// Nothing is looked at or changed before it is needed.
    pub(crate) fn new(settings: EgressSettings, group: &str, runtime_directory: &Path) -> Self {
        Self {
            settings,
            tag: site_tag(group),
            state_file: runtime_directory.join(STATE_FILE),
            applied: Mutex::new(None),
            starting: Arc::default(),
        }
    }

    /// To be held from before [`SiteNetwork::prepare`] until the launcher has answered: a container
    /// that is connected while the rules are taken away could reach the node.
    pub(crate) fn connecting(&self) -> Connecting {
        Connecting {
            _held: Arc::clone(&self.starting),
        }
    }

    fn device_prefix(&self) -> String {
        format!("{DEVICE_PREFIX}{}", self.tag)
    }

    fn table(&self) -> String {
        format!("insula_{}", self.tag)
    }

    /// Whether this network could be had here, with nothing changed.
    pub(crate) fn check(&self) -> Result<(), NetworkError> {
        let mut netlink = Netlink::open().map_err(asking)?;
        let firewall = Firewall::find()?;
        let ways = devices::ways(&mut netlink).map_err(asking)?;
        let wanted = self.wanted(&mut netlink, &ways, &Resolvers::read(&self.settings))?;
        firewall.check(&script(&wanted))?;
        if let Some(chain) = firewall.obstacle()? {
            return Err(NetworkError::Obstacle { chain });
        }
        let path = forwarding_file("all");
        let access = rustix::fs::access(path.as_str(), rustix::fs::Access::WRITE_OK);
        access.map_err(|error| NetworkError::Forwarding {
            path,
            source: error.into(),
        })
    }

    /// Makes the rules and switches forwarding on where that is not so, and says how the launcher
    /// connects a container. Blocks for some milliseconds now and then.
    pub(crate) fn prepare(&self, first_place: u32) -> Result<WayOut, NetworkError> {
        let mut applied = self.applied();
        let current = applied
            .as_ref()
            .filter(|known| known.at.elapsed() < LOOK_AGAIN);
        let way_out = match current {
            Some(known) => known.way_out.clone(),
            None => self.apply(&mut applied)?,
        };
        Ok(WayOut {
            first_place,
            ..way_out
        })
    }

    /// Puts everything in place that is not.
    fn apply(&self, applied: &mut Option<Applied>) -> Result<WayOut, NetworkError> {
        let mut netlink = Netlink::open().map_err(asking)?;
        let firewall = Firewall::find()?;
        let ways = devices::ways(&mut netlink).map_err(asking)?;
        let resolvers = Resolvers::read(&self.settings);
        let wanted = self.wanted(&mut netlink, &ways, &resolvers)?;
        let known = applied.take().filter(|known| known.wanted == wanted);
        let way_out = WayOut {
            device_prefix: self.device_prefix(),
            range: wanted.range,
            first_place: 0,
            mtu: ways.mtu,
            resolv_conf: resolvers.file(gateway(wanted.range)),
        };
        if known.is_none() || !firewall.has_table(&wanted.table)? {
            self.remember(&wanted)?;
            // The rules first: they close what forwarding opens.
            firewall.apply(&script(&wanted))?;
            for device in &wanted.switched_on {
                write_forwarding(device, "1")?;
            }
        }
        let forwarder = match known {
            Some(known) if known.way_out == way_out => known._forwarder,
            _ if resolvers.behind.is_empty() => None,
            _ => Forwarder::start(gateway(wanted.range), &resolvers.behind),
        };
        *applied = Some(Applied {
            wanted,
            way_out: way_out.clone(),
            at: Instant::now(),
            _forwarder: forwarder,
        });
        Ok(way_out)
    }

    /// What should be: the range of what lives, or a new one.
    fn wanted(
        &self,
        netlink: &mut Netlink,
        ways: &Ways,
        resolvers: &Resolvers,
    ) -> Result<Wanted, NetworkError> {
        let before = self.state();
        let own = devices::devices(netlink, &self.device_prefix()).map_err(asking)?;
        let range = match &before {
            Some(state) if !own.is_empty() => state.range,
            _ => {
                let seed = u32::from_str_radix(&self.tag, 16).unwrap_or_default();
                choose(self.settings.range, seed, &ways.routes)?
            }
        };
        let mut switched_on = before.map_or_else(BTreeSet::new, |state| state.switched_on);
        if forwards("all") {
            // Somebody else wants the node to forward: it is not ours to switch off.
            switched_on.clear();
        } else {
            switched_on.extend(ways.devices.iter().filter(|name| !forwards(name)).cloned());
            switched_on.retain(|name| Path::new(&forwarding_file(name)).exists());
        }
        let mut servers: BTreeSet<_> = resolvers.direct.iter().copied().collect();
        if !resolvers.behind.is_empty() {
            servers.insert(gateway(range));
        }
        Ok(Wanted {
            table: self.table(),
            device_prefix: self.device_prefix(),
            range,
            denied: self.settings.denied.clone(),
            resolvers: servers,
            switched_on,
        })
    }

    fn state(&self) -> Option<State> {
        let bytes = fs::read(&self.state_file).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    fn remember(&self, wanted: &Wanted) -> Result<(), NetworkError> {
        let state = State {
            range: wanted.range,
            switched_on: wanted.switched_on.clone(),
        };
        let bytes = serde_json::to_vec(&state).expect("names and numbers become JSON");
        let written = write_file_atomic(&self.state_file, &bytes, 0o600, Durability::Process);
        written.map_err(|error| NetworkError::State {
            path: self.state_file.clone(),
            source: io::Error::other(error.to_string()),
        })
    }

    /// Members that have a device here. None is looked for where this site never made one.
    pub(crate) fn members(&self) -> Result<Vec<MemberId>, NetworkError> {
        let devices = self.own_devices()?;
        Ok(devices
            .iter()
            .filter_map(|device| device.alias.parse().ok())
            .collect())
    }

    /// Removes the devices of `member`.
    pub(crate) fn disconnect(&self, member: MemberId) -> Result<(), NetworkError> {
        let name = member.to_string();
        for device in self.own_devices()? {
            if device.alias == name {
                let mut netlink = Netlink::open().map_err(asking)?;
                devices::remove(&mut netlink, &device).map_err(asking)?;
            }
        }
        Ok(())
    }

    fn own_devices(&self) -> Result<Vec<devices::Device>, NetworkError> {
        if !self.state_file.exists() {
            return Ok(Vec::new());
        }
        let mut netlink = Netlink::open().map_err(asking)?;
        devices::devices(&mut netlink, &self.device_prefix()).map_err(asking)
    }

    /// Looks after what an earlier process left: the rules are made anew for containers that live,
    /// and taken away where none does.
    pub(crate) fn recover(&self) -> Result<(), NetworkError> {
        if !self.state_file.exists() {
            return Ok(());
        }
        if self.own_devices()?.is_empty() {
            return self.close();
        }
        self.prepare(0).map(drop)
    }

    /// Takes back everything, unless a container needs it.
    pub(crate) fn close(&self) -> Result<(), NetworkError> {
        let mut applied = self.applied();
        let Some(state) = self.state() else {
            return Ok(());
        };
        let connecting = Arc::strong_count(&self.starting) > 1;
        if connecting || !self.own_devices()?.is_empty() {
            return Ok(());
        }
        *applied = None;
        if !forwards("all") {
            for device in &state.switched_on {
                write_forwarding(device, "0")?;
            }
        }
        Firewall::find()?.remove_table(&self.table())?;
        let removed = fs::remove_file(&self.state_file);
        removed.map_err(|source| NetworkError::State {
            path: self.state_file.clone(),
            source,
        })
    }

    fn applied(&self) -> MutexGuard<'_, Option<Applied>> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A device that has gone needs nothing.
fn write_forwarding(device: &str, value: &str) -> Result<(), NetworkError> {
    let path = forwarding_file(device);
    match fs::write(&path, value) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(NetworkError::Forwarding { path, source })
        }
        _ => Ok(()),
    }
}

/// For messages: a name server as text.
pub(super) fn shown(servers: &[IpAddr]) -> String {
    let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
    servers.join(", ")
}
