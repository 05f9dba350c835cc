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
use super::user::{PastaError, UserRules, UserWay};
use super::watch::{Look, Watcher};
use super::{
    DEVICE_PREFIX, EgressSettings, InsideRules, Ipv4Range, TABLE_PREFIX, WayOut, gateway, site_tag,
    turns,
};
use crate::chain::chain;
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
use std::time::{Duration, Instant, SystemTime};

/// The file that remembers what was changed, in the engine's directory.
pub(super) const STATE_FILE: &str = "network.json";
/// Longest such file that is read, in bytes.
const STATE_LIMIT: u64 = 1 << 20;
/// Rules that no container needed for so long are taken back.
const UNUSED_LIMIT: Duration = Duration::from_secs(5);
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
    #[error(transparent)]
    Pasta(#[from] PastaError),
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
pub(super) struct State {
    /// Of the boot that it is about: forwarding and rules do not outlive one.
    #[serde(default)]
    boot_id: String,
    range: Ipv4Range,
    /// Devices whose forwarding was off before there was a site that needs it.
    #[serde(default)]
    switched_on: BTreeSet<String>,
    /// How often somebody changed the rules.
    #[serde(default)]
    pub(super) mended: u32,
    /// When last, in seconds since 1970.
    #[serde(default)]
    pub(super) mended_at_s: u64,
    /// Why the rules, which somebody changed, could not be made anew when last looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mend_failed: Option<String>,
}

impl State {
    /// What a file tells, if it is of this boot.
    pub(super) fn read(path: &Path) -> Option<Self> {
        let size = fs::metadata(path).ok()?.len();
        let bytes = (size <= STATE_LIMIT).then(|| fs::read(path).ok())??;
        let state: Self = serde_json::from_slice(&bytes).ok()?;
        (state.boot_id == own_boot_id()).then_some(state)
    }
}

/// What this process has put in place.
#[derive(Debug)]
struct Applied {
    wanted: Wanted,
    way_out: WayOut,
    at: Instant,
    /// The rules as `nft` lists them, where they are as they were made.
    listed: String,
    /// Since when there has been no container.
    unused_since: Option<Instant>,
    /// Why the rules could not be looked after when last tried.
    mend_failed: Option<String>,
    _forwarder: Option<Forwarder>,
    watcher: Option<Watcher>,
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
    pub(crate) fn new(settings: EgressSettings, group: &str, state_directory: &Path) -> Self {
        Self {
            settings,
            tag: site_tag(group),
            state_file: state_directory.join(STATE_FILE),
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
        format!("{TABLE_PREFIX}{}", self.tag)
    }

    /// Whether this network could be had here, with nothing changed.
    pub(crate) fn check(&self) -> Result<(), NetworkError> {
        let mut netlink = Netlink::open().map_err(asking)?;
        let firewall = Firewall::find()?;
        let ways = devices::ways(&mut netlink).map_err(asking)?;
        let none = BTreeSet::new();
        let resolvers = Resolvers::read(&self.settings);
        let wanted = self.wanted(&mut netlink, (&ways, &none), &resolvers)?;
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
    /// connects a container. From then on the rules are looked after. Blocks for some milliseconds
    /// now and then.
    pub(crate) fn prepare(self: &Arc<Self>, first_place: u32) -> Result<WayOut, NetworkError> {
        let mut applied = self.applied();
        let current = applied
            .as_ref()
            .filter(|known| known.at.elapsed() < LOOK_AGAIN);
        let way_out = match current {
            Some(known) => known.way_out.clone(),
            None => self.apply(&mut applied)?,
        };
        if let Some(known) = applied.as_mut() {
            known.unused_since = None;
            if known.watcher.is_none() && self.settings.looked_after {
                known.watcher = Watcher::start(Arc::downgrade(self));
            }
        }
        Ok(WayOut {
            first_place,
            ..way_out
        })
    }

    /// How an ordinary user's container gets out that starts now. Changes nothing; blocks for some
    /// milliseconds.
    pub(crate) fn user_way(&self) -> Result<UserWay, NetworkError> {
        UserWay::find(&self.settings, self.seed())
    }

    /// Sites begin to look for addresses at different places.
    fn seed(&self) -> u32 {
        u32::from_str_radix(&self.tag, 16).unwrap_or_default()
    }

    /// Puts everything in place that is not.
    fn apply(&self, applied: &mut Option<Applied>) -> Result<WayOut, NetworkError> {
        let mut netlink = Netlink::open().map_err(asking)?;
        let firewall = Firewall::find()?;
        let ways = devices::ways(&mut netlink).map_err(asking)?;
        let resolvers = Resolvers::read(&self.settings);
        let _turn = turns::take();
        let shared = firewall.switched_on_by_others(&self.table())?;
        let wanted = self.wanted(&mut netlink, (&ways, &shared), &resolvers)?;
        let known = applied.take().filter(|known| known.wanted == wanted);
        let way_out = WayOut {
            device_prefix: self.device_prefix(),
            range: wanted.range,
            first_place: 0,
            mtu: ways.mtu,
            resolv_conf: resolvers.file(gateway(wanted.range)),
            inside: self.settings.inside_too.then(|| InsideRules {
                firewall: firewall.clone().into_program(),
                rules: UserRules::of(&wanted, self.settings.connections),
            }),
        };
        let listed = match &known {
            Some(known) if firewall.is_intact(&wanted.table, &known.listed)? => {
                known.listed.clone()
            }
            _ => {
                self.remember(&wanted)?;
                // The rules first: they close what forwarding opens.
                firewall.apply(&script(&wanted))?;
                switch_on(&wanted)?;
                firewall.listed(&wanted.table)?.unwrap_or_default()
            }
        };
        let (forwarder, watcher) = known.map_or((None, None), |known| {
            let same = known.way_out == way_out;
            (known._forwarder.filter(|_| same), known.watcher)
        });
        let forwarder = forwarder.or_else(|| {
            let asked = !resolvers.behind.is_empty();
            asked.then(|| Forwarder::start(gateway(wanted.range), &resolvers.behind))?
        });
        *applied = Some(Applied {
            wanted,
            way_out: way_out.clone(),
            at: Instant::now(),
            listed,
            unused_since: None,
            mend_failed: None,
            _forwarder: forwarder,
            watcher,
        });
        Ok(way_out)
    }

    /// What should be: the range of what lives, or a new one. Of the ways out, some may forward only
    /// because other sites switched that on.
    fn wanted(
        &self,
        netlink: &mut Netlink,
        (ways, shared): (&Ways, &BTreeSet<String>),
        resolvers: &Resolvers,
    ) -> Result<Wanted, NetworkError> {
        let before = self.state();
        let own = devices::devices(netlink, &self.device_prefix()).map_err(asking)?;
        let range = match &before {
            Some(state) if !own.is_empty() => state.range,
            _ => choose(self.settings.range, self.seed(), &ways.routes)?,
        };
        let mut switched_on = before.map_or_else(BTreeSet::new, |state| state.switched_on);
        if forwards("all") {
            // Somebody else wants the node to forward: it is not ours to switch off.
            switched_on.clear();
        } else {
            let devices = ways.devices.iter();
            let ours = devices.filter(|name| !forwards(name) || shared.contains(*name));
            switched_on.extend(ours.cloned());
            switched_on.retain(|name| Path::new(&forwarding_file(name)).exists());
        }
        let others = devices::devices(netlink, DEVICE_PREFIX).map_err(asking)?;
        let others = others.into_iter().map(|device| device.name);
        let others = others.filter(|name| !devices::is_ours(name)).collect();
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
            others,
        })
    }

    fn state(&self) -> Option<State> {
        State::read(&self.state_file)
    }

    fn remember(&self, wanted: &Wanted) -> Result<(), NetworkError> {
        let before = self.state();
        self.write(&State {
            boot_id: own_boot_id(),
            range: wanted.range,
            switched_on: wanted.switched_on.clone(),
            mended: before.as_ref().map_or(0, |state| state.mended),
            mended_at_s: before.map_or(0, |state| state.mended_at_s),
            mend_failed: None,
        })
    }

    fn write(&self, state: &State) -> Result<(), NetworkError> {
        let bytes = serde_json::to_vec(state).expect("names and numbers become JSON");
        let failed = |source| NetworkError::State {
            path: self.state_file.clone(),
            source,
        };
        if let Some(parent) = self.state_file.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        write_file_atomic(&self.state_file, &bytes, 0o600, Durability::Process)
            .map_err(|error| failed(io::Error::other(error.to_string())))
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
    pub(crate) fn recover(self: &Arc<Self>) -> Result<(), NetworkError> {
        if !self.state_file.exists() {
            return Ok(());
        }
        if self.own_devices()?.is_empty() {
            self.close()?;
            // One of another boot: what it tells of is gone, and what it tells is over.
            if self.state().is_none() {
                let _ = fs::remove_file(&self.state_file);
            }
            return Ok(());
        }
        self.prepare(0).map(drop)
    }

    /// Makes the rules anew if somebody changed them, and takes them back when no container has
    /// needed them for a while.
    pub(super) fn look_after(&self) -> Look {
        let mut applied = self.applied();
        let Some(known) = applied.as_mut() else {
            return Look::Over;
        };
        let failed = self.mend(known).err().map(|error| chain(&error));
        if known.mend_failed != failed {
            self.tell_failure(failed.as_deref());
            known.mend_failed = failed;
        }
        let used = Arc::strong_count(&self.starting) > 1
            || self
                .own_devices()
                .map_or(true, |devices| !devices.is_empty());
        if used {
            known.unused_since = None;
            return Look::Again;
        }
        let since = *known.unused_since.get_or_insert_with(Instant::now);
        if since.elapsed() < UNUSED_LIMIT {
            return Look::Again;
        }
        match self.close_now(&mut applied) {
            Ok(()) if applied.is_none() => Look::Over,
            Ok(()) => Look::Again,
            Err(error) => {
                let told = chain(&error);
                tracing::warn!("rules for egress are left: {told}");
                Look::Again
            }
        }
    }

    /// Tells once that the rules cannot be looked after, and that they can again.
    fn tell_failure(&self, failed: Option<&str>) {
        match failed {
            Some(reason) => {
                tracing::error!("the rules for egress are not as they should be: {reason}");
            }
            None => tracing::info!("the rules for egress are looked after again"),
        }
        let Some(state) = self.state() else {
            return;
        };
        let noted = self.write(&State {
            mend_failed: failed.map(str::to_owned),
            ..state
        });
        if let Err(error) = noted {
            tracing::warn!("`doctor` will not tell of it: {}", chain(&error));
        }
    }

    /// Puts the rules back if somebody changed them.
    fn mend(&self, known: &mut Applied) -> Result<(), NetworkError> {
        let firewall = Firewall::find()?;
        let table = &known.wanted.table;
        let off = known.wanted.switched_on.iter().find(|name| is_off(name));
        if let Some(device) = off {
            switch_on(&known.wanted)?;
            tracing::warn!(
                "somebody switched the forwarding of {device} off, without which no answer reaches \
                 sessions with the network egress; it is switched on again"
            );
        }
        if firewall.is_intact(table, &known.listed)? {
            return Ok(());
        }
        firewall.apply(&script(&known.wanted))?;
        known.listed = firewall.listed(table)?.unwrap_or_default();
        tracing::warn!(
            "somebody changed the table {table} of nftables, which keeps sessions with the network \
             egress from this node; it is made anew"
        );
        let Some(state) = self.state() else {
            return Ok(());
        };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        self.write(&State {
            mended: state.mended.saturating_add(1),
            mended_at_s: now.map_or(0, |since| since.as_secs()),
            ..state
        })
    }

    /// Takes back everything, unless a container needs it.
    pub(crate) fn close(&self) -> Result<(), NetworkError> {
        self.close_now(&mut self.applied())
    }

    fn close_now(&self, applied: &mut Option<Applied>) -> Result<(), NetworkError> {
        let Some(state) = self.state() else {
            return Ok(());
        };
        let connecting = Arc::strong_count(&self.starting) > 1;
        if connecting || !self.own_devices()?.is_empty() {
            return Ok(());
        }
        *applied = None;
        let _turn = turns::take();
        let firewall = Firewall::find()?;
        let needed = firewall.switched_on_by_others(&self.table())?;
        if !forwards("all") {
            for device in state.switched_on.difference(&needed) {
                write_forwarding(device, "0")?;
            }
        }
        firewall.remove_table(&self.table())?;
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

/// Empty where the kernel does not tell: then no boot is distinguished from another.
pub(super) fn own_boot_id() -> String {
    process::boot_id().unwrap_or_default()
}

fn switch_on(wanted: &Wanted) -> Result<(), NetworkError> {
    let mut devices = wanted.switched_on.iter();
    devices.try_for_each(|device| write_forwarding(device, "1"))
}

/// Whether a device is there and does not forward.
fn is_off(device: &str) -> bool {
    let told = fs::read_to_string(forwarding_file(device));
    told.is_ok_and(|text| text.trim() == "0")
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
