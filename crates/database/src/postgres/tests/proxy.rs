//! A socket between a store and its server that cuts the connection at a commit.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use test_postgres::Server;

/// The port in the name of its socket, beside the server's own.
const PORT: u16 = 6_000;
/// What a client sends at the end of a transaction.
const COMMIT: &[u8] = b"COMMIT\0";

/// What happens to the next commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// It does not reach the server.
    Lost,
    /// The server does it, and its answer does not come back.
    Written,
    /// The client loses its connection at once, the server does not, and has the commit when it is
    /// released.
    Held,
}

#[derive(Debug)]
pub(super) struct Proxy {
    cut: Arc<Mutex<Option<Cut>>>,
    release: Sender<()>,
    address: String,
}

impl Proxy {
    pub(super) fn new(server: &Server) -> Self {
        let own = server.sockets().join(format!(".s.PGSQL.{PORT}"));
        let listener = UnixListener::bind(own).expect("bound");
        let behind = server.sockets().join(".s.PGSQL.5432");
        let cut = Arc::new(Mutex::new(None));
        let (release, released) = mpsc::channel();
        let released = Arc::new(Mutex::new(released));
        let shared = Arc::clone(&cut);
        // It ends with the test's process.
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.expect("accepted");
                let (cut, released) = (Arc::clone(&shared), Arc::clone(&released));
                let behind: PathBuf = behind.clone();
                thread::spawn(move || serve(client, &behind, &cut, &released));
            }
        });
        Self {
            cut,
            release,
            address: format!("{}&port={PORT}", server.address("postgres")),
        }
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// What happens to the next commit.
    pub(super) fn cut(&self, how: Cut) {
        *self.cut.lock().expect("not poisoned") = Some(how);
    }

    /// Lets the server have a commit that was held.
    pub(super) fn release(&self) {
        self.release.send(()).expect("somebody waits");
    }
}

fn serve(
    mut client: UnixStream,
    behind: &PathBuf,
    cut: &Mutex<Option<Cut>>,
    released: &Mutex<Receiver<()>>,
) {
    let mut server = UnixStream::connect(behind).expect("the server listens");
    let back = (
        server.try_clone().expect("cloned"),
        client.try_clone().expect("cloned"),
    );
    let answers = thread::spawn(move || forward_all(back));
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = client.read(&mut buffer) {
        let bytes = &buffer[..length];
        let commits = bytes.windows(COMMIT.len()).any(|part| part == COMMIT);
        let how = if commits {
            cut.lock().expect("not poisoned").take()
        } else {
            None
        };
        match how {
            None => {
                if server.write_all(bytes).is_err() {
                    break;
                }
            }
            Some(Cut::Lost) => break,
            Some(Cut::Written) => {
                hang_up(&client);
                server.write_all(bytes).expect("written");
                let _ = server.shutdown(std::net::Shutdown::Write);
                break;
            }
            Some(Cut::Held) => {
                hang_up(&client);
                let released = released.lock().expect("not poisoned");
                released.recv().expect("it is released");
                // The server may have given up.
                let _ = server.write_all(bytes);
                break;
            }
        }
    }
    hang_up(&client);
    let _ = server.shutdown(std::net::Shutdown::Write);
    let _ = answers.join();
}

fn forward_all((mut from, mut to): (UnixStream, UnixStream)) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        // Whoever hung up does not hear it; the server goes on.
        let _ = to.write_all(&buffer[..length]);
    }
    hang_up(&to);
}

fn hang_up(stream: &UnixStream) {
    // The other side may have been first.
    let _ = stream.shutdown(std::net::Shutdown::Both);
}
