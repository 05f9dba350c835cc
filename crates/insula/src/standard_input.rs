//! Our own standard input, read on a thread.

use bytes::Bytes;
use std::io;
use std::time::Duration;
use tokio::sync::mpsc;

/// Time between two looks whether we are in front of our terminal.
const FOREGROUND_AGAIN: Duration = Duration::from_millis(200);
/// Size of one read, in bytes.
const READ_BYTES: usize = 64 << 10;
/// Pieces read ahead of what the command took.
const PIECES_LIMIT: usize = 4;

/// Standard input is something that can be read: not closed, not /dev/null.
pub(crate) fn is_there() -> bool {
    let Ok(found) = rustix::fs::fstat(rustix::stdio::stdin()) else {
        return false;
    };
    let null = rustix::fs::stat("/dev/null");
    !null.is_ok_and(|null| null.st_rdev == found.st_rdev && found.st_rdev != 0)
}

/// Standard input was given by somebody, as a pipe or a file: not what we happened to be started
/// with.
pub(crate) fn is_from_elsewhere() -> bool {
    use rustix::fs::FileType;
    rustix::fs::fstat(rustix::stdio::stdin()).is_ok_and(|found| {
        let kind = FileType::from_raw_mode(found.st_mode);
        matches!(kind, FileType::Fifo | FileType::RegularFile)
    })
}

/// Reads standard input on a thread of its own, since that may wait for ever. The channel ends
/// where the input does.
pub(crate) fn read_on_a_thread() -> mpsc::Receiver<Bytes> {
    let (sender, receiver) = mpsc::channel(PIECES_LIMIT);
    std::thread::spawn(move || {
        let mut buffer = vec![0_u8; READ_BYTES];
        loop {
            wait_for_foreground();
            match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    let piece = Bytes::copy_from_slice(&buffer[..count]);
                    if sender.blocking_send(piece).is_err() {
                        return;
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => wait_readable(),
                // A terminal that we may not read any more: as if nothing came.
                Err(rustix::io::Errno::IO) => wait_for_ever(&sender),
                Err(_) => return,
            }
        }
    });
    receiver
}

/// A process in the background that reads its terminal is stopped by the kernel (SIGTTIN), and a
/// stopped run would no longer bring any output. So it does not read until it is in front.
fn wait_for_foreground() {
    while rustix::termios::tcgetpgrp(rustix::stdio::stdin())
        .is_ok_and(|in_front| in_front != rustix::process::getpgrp())
    {
        std::thread::sleep(FOREGROUND_AGAIN);
    }
}

/// For input that somebody else made non-blocking.
fn wait_readable() {
    let stdin = rustix::stdio::stdin();
    let mut waiting = [rustix::event::PollFd::new(
        &stdin,
        rustix::event::PollFlags::IN,
    )];
    // A failure shows itself at the next read.
    let _: Result<_, io::Error> = rustix::event::poll(&mut waiting, None).map_err(Into::into);
}

/// Keeps the input open without anything coming from it; ends with the process.
fn wait_for_ever(_open: &mpsc::Sender<Bytes>) {
    loop {
        std::thread::park();
    }
}
