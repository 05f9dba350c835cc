//! Where output goes: one of our own streams, as it is, or line by line with a prefix where that
//! stream is shared.

use bytes::Bytes;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A line with a prefix that is longer than this is cut into several, in bytes.
const LINE_LIMIT_BYTES: usize = 64 << 10;

/// Who is given so much at once, in bytes, writes more than a pipe holds,
const MUCH_BYTES: usize = 64 << 10;
/// and is better off with one that holds as much: either side does more before it waits for the
/// other one.
const PIPE_BYTES: usize = 256 << 10;

/// One of our own streams. When it cannot be written any more, that is told once, and the rest of
/// the output is read and thrown away, so that the program is not blocked.
#[derive(Debug)]
pub(crate) struct Sink {
    out: Arc<Out>,
    lines: Option<Lines>,
    /// What is being written while more is fetched.
    writing: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Out {
    /// Gone once it broke. Held while bytes are written, so that those of others do not come
    /// between them; only ever by threads that may wait.
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// It was tried to have it hold more.
    widened: bool,
    broken: oneshot::Sender<io::Error>,
}

impl Sink {
    /// A sink to a copy of `stream`, and what tells that it is broken.
    pub(crate) fn of(stream: impl AsFd) -> io::Result<(Self, oneshot::Receiver<io::Error>)> {
        let file = File::from(stream.as_fd().try_clone_to_owned()?);
        let (broken, receiver) = oneshot::channel();
        let open = Mutex::new(Some(Open {
            file,
            widened: false,
            broken,
        }));
        let sink = Self {
            out: Arc::new(Out { open }),
            lines: None,
            writing: None,
        };
        Ok((sink, receiver))
    }

    /// A sink to the same stream that writes whole lines, each after `prefix`.
    pub(crate) fn with_prefix(&self, prefix: String) -> Self {
        Self {
            out: Arc::clone(&self.out),
            lines: Some(Lines {
                prefix,
                partial: Vec::new(),
            }),
            writing: None,
        }
    }

    /// Writes all of it; returns when it is written or thrown away.
    pub(crate) async fn write(&mut self, bytes: Bytes) {
        self.give(bytes).await;
        self.written().await;
    }

    /// Writes all of it after what was given before, and returns when that is written or thrown
    /// away: more can be fetched meanwhile. [`Self::written`] waits for the last.
    pub(crate) async fn give(&mut self, bytes: Bytes) {
        let Some(lines) = &mut self.lines else {
            return self.pass_on(bytes).await;
        };
        let whole = lines.whole(&bytes);
        self.pass_on(whole.into()).await;
        // Whole lines of several sinks stand in the order in which they came.
        self.written().await;
    }

    /// Returns when all that was given is written or thrown away.
    pub(crate) async fn written(&mut self) {
        if let Some(writing) = &mut self.writing {
            let written = writing.await;
            self.writing = None;
            written.expect("writing does not panic");
        }
    }

    /// Writes a last line that has no end.
    pub(crate) async fn finish(&mut self) {
        if let Some(lines) = &mut self.lines {
            let bytes = lines.rest();
            self.pass_on(bytes.into()).await;
        }
        self.written().await;
    }

    async fn pass_on(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        self.written().await;
        // On a thread that may wait: a reader who is slow (`| less`) must not stop the rest.
        let out = Arc::clone(&self.out);
        self.writing = Some(tokio::task::spawn_blocking(move || out.write(&bytes)));
    }
}

impl Out {
    fn write(&self, bytes: &[u8]) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut now) = open.take() else { return };
        if bytes.len() >= MUCH_BYTES && !now.widened {
            now.widened = true;
            widen(&now.file);
        }
        match write_all(&now.file, bytes) {
            Ok(()) => *open = Some(now),
            // Nobody listens any more: then the command is at its end.
            Err(error) => drop(now.broken.send(error)),
        }
    }
}

/// Bytes as lines with a prefix.
#[derive(Debug)]
struct Lines {
    prefix: String,
    partial: Vec<u8>,
}

impl Lines {
    /// The lines that are whole now.
    fn whole(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.partial.len() >= LINE_LIMIT_BYTES {
                out.append(&mut self.rest());
            }
        }
        out
    }

    /// What is there as a line.
    fn rest(&mut self) -> Vec<u8> {
        if self.partial.is_empty() {
            return Vec::new();
        }
        let mut line = self.prefix.clone().into_bytes();
        line.append(&mut self.partial);
        if !line.ends_with(b"\n") {
            line.push(b'\n');
        }
        line
    }
}

/// Has a pipe hold more; also works as it is.
fn widen(pipe: &File) {
    if rustix::pipe::fcntl_getpipe_size(pipe).is_ok_and(|holds| holds < PIPE_BYTES) {
        let _ = rustix::pipe::fcntl_setpipe_size(pipe, PIPE_BYTES);
    }
}

/// Writes also where the stream was made non-blocking by somebody who shares it.
fn write_all(mut file: &File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait_writable(file)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn wait_writable(file: &File) -> io::Result<()> {
    let mut waiting = [rustix::event::PollFd::new(
        file,
        rustix::event::PollFlags::OUT,
    )];
    match rustix::event::poll(&mut waiting, None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::{LINE_LIMIT_BYTES, Lines, Sink};
    use bytes::Bytes;
    use std::fs::File;
    use std::io::Read as _;

    #[tokio::test]
    async fn a_sink_that_breaks_tells_once_and_swallows_the_rest() {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let (mut sink, broken) = Sink::of(&writer).expect("a copy");
        sink.write(Bytes::from_static(b"one")).await;
        drop(reader);
        sink.write(Bytes::from_static(b"two")).await;
        sink.write(Bytes::from_static(b"three")).await;
        let error = broken.await.expect("told");
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn what_is_given_is_written_in_order_while_more_comes() {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let (mut sink, _broken) = Sink::of(&writer).expect("a copy");
        drop(writer);
        // Each is more than a pipe holds.
        let pieces: Vec<Bytes> = (0..8).map(|i| vec![i; 512 << 10].into()).collect();
        let expected = pieces.concat();
        let reading = std::thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).map(|_| all)
        });
        for piece in pieces {
            sink.give(piece).await;
        }
        sink.written().await;
        drop(sink);
        let read = reading.join().expect("no panic").expect("read");
        assert!(
            read == expected,
            "{} bytes of {}",
            read.len(),
            expected.len()
        );
    }

    #[test]
    fn a_pipe_that_much_goes_through_holds_more_and_never_less() {
        let (_reader, writer) = std::io::pipe().expect("a pipe");
        let holds = || rustix::pipe::fcntl_getpipe_size(&writer).expect("a pipe has a size");
        let file = File::from(
            writer
                .try_clone()
                .map(std::os::fd::OwnedFd::from)
                .expect("a copy"),
        );
        let before = holds();
        super::widen(&file);
        assert!(holds() >= before.max(super::PIPE_BYTES));
        rustix::pipe::fcntl_setpipe_size(&writer, 2 * super::PIPE_BYTES).expect("within the limit");
        super::widen(&file);
        assert_eq!(holds(), 2 * super::PIPE_BYTES);
        // What is no pipe is left alone.
        super::widen(&tempfile::tempfile().expect("a file"));
    }

    #[tokio::test]
    async fn sinks_that_share_a_stream_write_whole_lines() {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let (shared, _broken) = Sink::of(&writer).expect("a copy");
        let (mut one, mut two) = (
            shared.with_prefix("1: ".to_owned()),
            shared.with_prefix("2: ".to_owned()),
        );
        one.write(Bytes::from_static(b"a\nb")).await;
        two.write(Bytes::from_static(b"x\n\ny")).await;
        one.write(Bytes::from_static(b"c\n")).await;
        two.finish().await;
        drop((shared, one, two, writer));
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("read");
        assert_eq!(text, "1: a\n2: x\n2: \n1: bc\n2: y\n");
    }

    #[test]
    fn a_line_that_does_not_end_is_cut() {
        let mut lines = Lines {
            prefix: "7: ".to_owned(),
            partial: Vec::new(),
        };
        let whole = lines.whole(&vec![b'x'; LINE_LIMIT_BYTES]);
        assert_eq!(whole.len(), LINE_LIMIT_BYTES + 4);
        assert!(lines.rest().is_empty());
    }
}
