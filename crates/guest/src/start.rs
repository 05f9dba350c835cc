//! The way up: descriptors, configuration, *ready*, and the wait for *go*.

use crate::guest::{Guest, Inherited};
use crate::inheritance::{FIRST, close_all_on_exec, is_open};
use crate::picture::Shown;
use crate::processes::Reach;
use crate::signals::child_signals;
use guest_api::{GuestConfig, PROTOCOL_VERSION, descriptors};
use rustix::{
    io::{Errno, ioctl_fionbio, pread, read, retry_on_intr, write},
    process::{DumpableBehavior, set_dumpable_behavior},
};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;

/// Largest configuration, in bytes: the kernel takes no larger command and environment.
const CONFIG_LIMIT: usize = 8 << 20;
/// Bytes read of it at once.
const CONFIG_READ: usize = 64 << 10;

/// The guest cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// An inherited descriptor is missing.
    #[error("descriptor {number} ({name}) is not open")]
    NotInherited {
        /// Its number.
        number: RawFd,
        /// What it should be.
        name: &'static str,
    },
    /// Something of the process could not be set up.
    #[error("{act} failed: {source}")]
    SetUp {
        /// What was tried.
        act: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The configuration could not be read.
    #[error("reading the configuration failed: {0}")]
    ReadConfig(#[source] Errno),
    /// It is larger than any can be.
    #[error("the configuration is larger than {CONFIG_LIMIT} bytes")]
    ConfigTooLarge,
    /// It is not one.
    #[error("the configuration cannot be understood: {0}")]
    DecodeConfig(#[source] rmp_serde::decode::Error),
    /// It is of another protocol.
    #[error("the configuration is of protocol {found}, this guest speaks {PROTOCOL_VERSION}")]
    Protocol {
        /// Its protocol.
        found: u32,
    },
}

/// Everything up to *go*. `None`: the launcher went away, nothing is to be run.
pub(crate) fn start() -> Result<Option<Guest>, StartError> {
    close_all_on_exec();
    let set_up = |act| move |source: io::Error| StartError::SetUp { act, source };
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| set_up("becoming undumpable")(error.into()))?;
    open_standard_streams().map_err(set_up("opening the standard streams"))?;
    let config = inherit(descriptors::CONFIG, "configuration")?;
    let listener = inherit(descriptors::LISTENER, "listener")?;
    let records = inherit(descriptors::RECORD_DIRECTORY, "record directory")?;
    let logs = inherit(descriptors::LOG_DIRECTORY, "log directory")?;
    let lock = inherit(descriptors::LOCK, "lock")?;
    let go = inherit(descriptors::GO, "go")?;
    let ready = inherit(descriptors::READY_PIPE, "ready")?;
    let place = inherit(descriptors::PICTURE, "picture").ok();
    let notifications = inherit(descriptors::NOTIFICATIONS, "notifications").ok();
    let config = decode_config(&read_config(&config)?)?;
    ioctl_fionbio(&listener, true)
        .map_err(|error| set_up("unblocking the listener")(error.into()))?;
    let reach = Reach::establish();
    let signals = child_signals().map_err(set_up("receiving signals"))?;
    let shown = Shown::take(place, notifications);
    // A launcher that does not read this any more has closed *go* too.
    let _ = retry_on_intr(|| write(&ready, &[descriptors::READY]));
    drop(ready);
    let mut byte = [0];
    if !matches!(retry_on_intr(|| read(&go, &mut byte)), Ok(1)) {
        return Ok(None);
    }
    drop(go);
    let inherited = Inherited {
        listener,
        records,
        logs: Rc::new(logs),
        _lock: lock,
        signals,
    };
    Ok(Some(Guest::new(config, inherited, reach, shown)))
}

/// Tells whoever started the guest why it did not; afterwards there is nobody to tell.
#[expect(clippy::print_stderr, reason = "the only words the guest ever prints")]
pub(crate) fn complain(error: &StartError) {
    eprintln!("insula guest: {error}");
}

/// Fills 0, 1 and 2 if they are closed, so that nothing of ours takes their numbers.
fn open_standard_streams() -> io::Result<()> {
    for descriptor in 0..FIRST {
        if is_open(descriptor) {
            continue;
        }
        // SAFETY: the path is a constant string; the lowest free number is `descriptor`, because
        // those below it are open, and it is left open for good.
        let opened = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
        if opened != descriptor {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

fn inherit(number: RawFd, name: &'static str) -> Result<OwnedFd, StartError> {
    if !is_open(number) {
        return Err(StartError::NotInherited { number, name });
    }
    // SAFETY: the launcher left it to us under this number, and this function is called once for
    // each number, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn read_config(file: &OwnedFd) -> Result<Vec<u8>, StartError> {
    let mut bytes = Vec::new();
    let mut part = vec![0; CONFIG_READ];
    loop {
        let offset = u64::try_from(bytes.len()).expect("fits");
        let count = match retry_on_intr(|| pread(file, &mut part[..], offset)) {
            // A pipe has no offsets.
            Err(Errno::SPIPE) => retry_on_intr(|| read(file, &mut part[..])),
            result => result,
        };
        match count.map_err(StartError::ReadConfig)? {
            0 => return Ok(bytes),
            count => bytes.extend_from_slice(&part[..count]),
        }
        if bytes.len() > CONFIG_LIMIT {
            return Err(StartError::ConfigTooLarge);
        }
    }
}

fn decode_config(bytes: &[u8]) -> Result<GuestConfig, StartError> {
    let config: GuestConfig = rmp_serde::from_slice(bytes).map_err(StartError::DecodeConfig)?;
    if config.protocol > PROTOCOL_VERSION {
        return Err(StartError::Protocol {
            found: config.protocol,
        });
    }
    Ok(config)
}
