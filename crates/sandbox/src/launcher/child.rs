//! What the child of a start does between clone and exec.
//!
//! It runs in a copy of the launcher's memory, has a copy of its descriptors, and allocates
//! nothing: the plan was made before. Its acts are in the only order that works: groups are joined
//! while the opened files allow it, /proc is mounted while the old one is still visible, and
//! privileges go last but for the filters, which need no-new-privileges and little else.

mod credentials;
mod kernels;
mod late;
mod mounts;
mod picture;

use super::plan::{Act, FIRST_INHERITED, Failed, Inherited, OwnNetwork, Plan};
use crate::kernel;
use guest_api::descriptors;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::thread::UnshareFlags;
use std::convert::Infallible;
use std::io;
use std::os::fd::BorrowedFd;

/// The guest's name for itself, as `ps` shows it.
const GUEST_NAME: &std::ffi::CStr = c"insula-guest";
/// Descriptors from here on are none of the guest's.
const FIRST_CLOSED: u32 = 10;

/// Names the act of an error.
pub(super) trait During<T> {
    fn during(self, act: Act) -> Result<T, Failed>;
    fn during_each(self, act: Act, index: usize) -> Result<T, Failed>;
}

impl<T> During<T> for Result<T, Errno> {
    fn during(self, act: Act) -> Result<T, Failed> {
        self.during_each(act, 0)
    }

    fn during_each(self, act: Act, index: usize) -> Result<T, Failed> {
        self.map_err(|errno| Failed {
            act,
            index: u16::try_from(index).unwrap_or(u16::MAX),
            errno: errno.raw_os_error(),
        })
    }
}

/// Becomes the guest, or tells why not and ends.
pub(super) fn run(mut plan: Plan, kept: &[u32]) -> ! {
    let failed = match become_guest(&mut plan, kept) {
        Ok(never) => match never {},
        Err(failed) => failed,
    };
    // If nobody reads it, there is nobody to tell.
    let _ = rustix::io::write(&plan.error, &failed.encode());
    kernel::exit_now(1)
}

fn become_guest(plan: &mut Plan, kept: &[u32]) -> Result<Infallible, Failed> {
    kernel::reset_signals();
    close_others(kept);
    // Before groups of version 1 are joined: what this takes of the kernel's memory is none of the
    // member's there. In its group of version 2 it is from the beginning.
    // SAFETY: no memory and no descriptor is touched but the working directory, which is its own.
    unsafe { rustix::thread::unshare_unsafe(namespaces(plan)) }.during(Act::MakeNamespaces)?;
    for (index, group) in plan.groups.iter().enumerate() {
        rustix::io::write(group, b"0").during_each(Act::JoinGroup, index)?;
    }
    // SAFETY: unsharing the cgroup namespace touches no memory and no descriptor.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWCGROUP) }.during(Act::HideGroups)?;
    // As the user still, whose way to these may lead by a group that is left in a moment.
    mounts::open_sources(&mut plan.mounts)?;
    // As long as the node's /proc is there.
    let clock = picture::open_clock();
    wait_for_launcher(plan)?;
    credentials::become_root(plan.ids).during(Act::BecomeRoot)?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    if plan.network != OwnNetwork::No {
        kernel::loopback_up().during(Act::RaiseLoopback)?;
    }
    let built = mounts::build(&plan.mounts, &plan.picture, plan.ids)?;
    let late;
    let (hostname, boot_offset, of_member) = match &plan.inherited {
        Inherited::Known(descriptors) => {
            let (name, offset) = (&plan.hostname, &plan.picture.boot_offset);
            (name.as_bytes(), offset.as_slice(), descriptors)
        }
        Inherited::Awaited(socket) => {
            late = late::receive(socket)?;
            mounts::attach_own(&built, &plan.mounts, &late.mounts)?;
            (late.hostname(), late.boot_offset(), &late.descriptors)
        }
    };
    let begins = clock.is_some_and(|clock| picture::begin_time(&clock, boot_offset));
    built.begin(begins).during(Act::ShowShare)?;
    rustix::system::sethostname(hostname).during(Act::SetHostname)?;
    built.write_hostname(hostname).during(Act::WriteSmallFile)?;
    for (number, descriptor) in (FIRST_INHERITED..).zip(of_member.iter().chain(&plan.pipes)) {
        kernel::duplicate(descriptor, number).during(Act::PassDescriptors)?;
    }
    // Standard input and output are /dev/null already; the launcher's messages are not for it.
    // SAFETY: descriptor 0 is open for as long as the launcher and its children live.
    let null = unsafe { BorrowedFd::borrow_raw(0) };
    kernel::duplicate(null, 2).during(Act::PassDescriptors)?;
    kernel::close_on_exec_from(FIRST_CLOSED).during(Act::PassDescriptors)?;
    kernel::duplicate(&built.shown, descriptors::PICTURE).during(Act::PassDescriptors)?;
    credentials::become_guest(plan.ids).during(Act::GiveUpPrivileges)?;
    if plan.close_abstract_sockets {
        kernel::close_abstract_sockets().during(Act::CloseSockets)?;
    }
    picture::install(&plan.filter).during(Act::FilterCalls)?;
    Err(kernel::execute(&plan.guest, GUEST_NAME)).during(Act::RunGuest)
}

/// What the child makes of its own; the namespaces of groups and of clocks follow.
fn namespaces(plan: &Plan) -> UnshareFlags {
    let mut flags = UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    flags.set(UnshareFlags::NEWNET, plan.network == OwnNetwork::Alone);
    flags
}

/// What a container's child does that kernels and administrators forbid to users, and its words;
/// for a trial. Nothing of it outlives the calling process.
pub(super) fn attempt() -> Result<(), (&'static str, io::Error)> {
    mounts::attempt().map_err(|(act, error)| (act, error.into()))
}

/// Closes everything from 3 on that is not in `kept`, which is sorted.
pub(super) fn close_others(kept: &[u32]) {
    let mut next = 3;
    for number in kept {
        if *number > next {
            kernel::close_range(next, number - 1);
        }
        next = number + 1;
    }
    kernel::close_range(next, u32::MAX);
}

/// Waits until the launcher has done its part. End of file means that it died, or gave up.
fn wait_for_launcher(plan: &Plan) -> Result<(), Failed> {
    let mut byte = [0];
    match rustix::io::read(&plan.sync, &mut byte) {
        Ok(1) => Ok(()),
        Ok(_) => Err(Errno::PIPE).during(Act::WaitForLauncher),
        Err(error) => Err(error).during(Act::WaitForLauncher),
    }
}
