//! Leaders that were overtaken, connections that are cut in a commit, and a server that is
//! started again.

use super::proxy::{Cut, Proxy};
use super::{leading, leading_in_the_end, options};
use crate::error::{CommitError, StoreError};
use crate::postgres::{PostgresStore, Standing};
use crate::store::{Retention, Store as _};
use crate::tests::TestStore as _;
use crate::tests::sample::{pending, put};
use domain::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};
use test_postgres::Server;

const ADDRESS: &str = "INSULA_TEST_POSTGRES";
const UNFENCED: &str = "INSULA_TEST_UNFENCED";
const ALWAYS: Timestamp = Timestamp(0);
/// Sessions of the one that takes over have numbers from here.
const OTHERS: u32 = 100_000;

fn sessions(store: &mut PostgresStore) -> i64 {
    store.number("SELECT count(*) FROM sessions")
}

/// Has the lease run out, so that nobody has to wait for it.
fn run_out(server: &Server) {
    let changed = server.shell("postgres", "UPDATE lease SET until_at = 0");
    changed.expect("changed");
}

fn is_fenced<T: std::fmt::Debug>(result: Result<T, CommitError>) {
    let error = result.expect_err("fenced");
    let CommitError::Refused { source } = error else {
        panic!("{error:?}");
    };
    assert!(source.is_overtaken(), "{source:?}");
    assert!(source.to_string().starts_with("new leads"), "{source}");
}

#[test]
fn no_write_of_an_old_leader_is_accepted_and_without_the_fence_it_is() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let address = server.address("postgres");
    let (old, new) = (options(&address, "old"), options(&address, "new"));
    let mut old = leading(&old);
    old.commit(&[put(pending(1))]).expect("it leads");
    let mut new = PostgresStore::open(new).expect("opened");
    let Standing::StandsBy(leader) = new.try_lead().expect("asked") else {
        panic!("two lead");
    };
    assert_eq!((leader.place.as_str(), leader.epoch), ("old", 1));
    assert!(
        new.load(ALWAYS, ALWAYS)
            .expect_err("refused")
            .is_overtaken()
    );

    run_out(&server);
    // Nobody else leads: what has run out is renewed by the next write.
    old.commit(&[put(pending(2))]).expect("it still leads");
    run_out(&server);
    assert_eq!(new.try_lead().expect("asked"), Standing::Leads);
    assert_eq!(new.load(ALWAYS, ALWAYS).expect("loaded").sessions.len(), 2);

    is_fenced(old.commit(&[put(pending(3))]));
    // As if it were due.
    old.renewed = Duration::ZERO;
    assert!(old.keep_lease().expect_err("refused").is_overtaken());
    let prune = old.prune(&Retention::default(), Timestamp(i64::MAX));
    assert!(prune.expect_err("refused").is_overtaken());
    let load = old.settle().expect_err("another leads");
    assert!(matches!(load, StoreError::NotLeading { .. }), "{load:?}");
    is_fenced(old.commit(&[put(pending(3))]));
    old.give_up();
    assert_eq!(sessions(&mut new), 2);

    // The control: without the fence the same write is accepted, behind the leader's back.
    old.unfenced = true;
    old.commit(&[put(pending(3))]).expect("accepted");
    assert_eq!(sessions(&mut new), 3);
    new.commit(&[put(pending(OTHERS))]).expect("it leads");
}

#[test]
fn a_lease_that_is_given_up_is_free_at_once() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let address = server.address("postgres");
    let mut old = leading(&options(&address, "old"));
    let clock = old.lease_clock();
    assert!(clock.holds());
    let mut new = PostgresStore::open(options(&address, "new")).expect("opened");
    assert!(matches!(new.try_lead(), Ok(Standing::StandsBy(_))));
    old.give_up();
    assert!(!clock.holds());
    assert_eq!(new.try_lead().expect("asked"), Standing::Leads);
    is_fenced(old.commit(&[put(pending(1))]));
}

#[test]
fn a_commit_in_which_the_connection_is_cut_is_unknown_and_a_load_tells() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let proxy = Proxy::new(&server);
    let mut store = leading(&options(proxy.address(), "old"));
    store.commit(&[put(pending(0))]).expect("nothing is cut");
    let mut expect = 1;
    for (number, cut, written) in [
        (1, Cut::Lost, false),
        (2, Cut::Written, true),
        (3, Cut::Held, false),
    ] {
        proxy.cut(cut);
        let error = store.commit(&[put(pending(number))]).expect_err("cut");
        assert!(matches!(error, CommitError::Unknown { .. }), "{error:?}");
        let again = store.commit(&[put(pending(9))]).expect_err("not loaded");
        assert!(matches!(again, CommitError::Refused { .. }), "{again:?}");
        // The server still has the transaction of the held one, which keeps the lease's row until
        // the server ends it.
        let loaded = loop {
            if let Ok(loaded) = store.load(ALWAYS, ALWAYS) {
                break loaded;
            }
        };
        if cut == Cut::Held {
            proxy.release();
        }
        expect += usize::from(written);
        assert_eq!(loaded.sessions.len(), expect, "{cut:?}");
        let number = 10 + number;
        store.commit(&[put(pending(number))]).expect("it goes on");
        expect += 1;
        let found = store.load(ALWAYS, ALWAYS).expect("loaded").sessions.len();
        assert_eq!(found, expect, "{cut:?}: nothing appears later");
    }
}

#[test]
fn a_server_that_is_started_again_is_found_again_with_every_commit() {
    let Some(mut server) = Server::start_or_skip() else {
        return;
    };
    let mut store = leading(&options(&server.address("postgres"), "old"));
    store.commit(&[put(pending(1))]).expect("committed");
    server.stop();
    let error = store.commit(&[put(pending(2))]).expect_err("no server");
    assert!(matches!(error, CommitError::Refused { .. }), "{error:?}");
    assert!(store.load(ALWAYS, ALWAYS).is_err(), "still none");
    assert!(store.keep_lease().is_err());
    server.start_again().expect("started");
    let loaded = store.load(ALWAYS, ALWAYS).expect("connected anew");
    assert_eq!(loaded.sessions, [pending(1)]);
    assert_eq!(store.commit(&[put(pending(2))]).expect("it leads"), 2);
}

/// A variable given to a child; `None` in the test itself.
#[allow(
    clippy::disallowed_methods,
    reason = "a child of the test is told what to do"
)]
fn told(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The role of a child: leads for ever and tells which commits were accepted.
#[test]
fn role_lead_for_ever() {
    let Some(address) = told(ADDRESS) else {
        return;
    };
    let mut store = leading_in_the_end(&options(&address, "old"));
    store.unfenced = told(UNFENCED).is_some();
    for number in 0.. {
        if store.unfenced {
            // One step each time it is told so.
            let mut line = String::new();
            std::io::stdin()
                .read_line(&mut line)
                .expect("the test writes");
        }
        match store.commit(&[put(pending(number))]) {
            Ok(commit) => println!("committed {commit}"),
            Err(CommitError::Refused { source } | CommitError::Unknown { source }) => {
                println!("refused {source} {source:?}");
                return;
            }
        }
    }
}

/// A leader in a process of its own, which ends with this value.
struct Leader {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Leader {
    fn start(address: &str, fenced: bool) -> Self {
        let executable = std::env::current_exe().expect("a path");
        let mut command = process::command(executable);
        let role = "postgres::tests::fencing::role_lead_for_ever";
        command
            .args(["--exact", role, "--nocapture"])
            .env(ADDRESS, address)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if !fenced {
            command.env(UNFENCED, "1");
        }
        let mut child = command.spawn().expect("spawned");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { child, lines }
    }

    /// The next line that begins with one of these.
    fn next(&mut self, beginnings: &[&str]) -> String {
        let mut lines = self.lines.by_ref().map_while(Result::ok);
        let found = lines.find(|line| beginnings.iter().any(|word| line.starts_with(word)));
        found.expect("it tells")
    }

    /// Lets one without the fence make a step, and returns what came of it.
    fn step(&mut self) -> String {
        let stdin = self.child.stdin.as_mut().expect("piped");
        stdin.write_all(b"go\n").expect("it reads");
        self.next(&["committed", "refused"])
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("a process id");
        kill_process(Pid::from_raw(id).expect("not zero"), signal).expect("it lives");
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_leader_that_stood_still_for_longer_than_its_lease_writes_nothing_more() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let address = server.address("postgres");
    for round in 0..3 {
        let mut old = Leader::start(&address, true);
        for _ in 0..=round * 7 {
            old.next(&["committed"]);
        }
        old.signal(Signal::STOP);
        let stopped = Instant::now();
        let mut new = leading_in_the_end(&options(&address, "new"));
        println!("taken over after {:?}", stopped.elapsed());
        let before = new.commit(&[put(pending(OTHERS))]).expect("it leads");
        old.signal(Signal::CONT);
        let last = old.next(&["refused"]);
        println!("the old leader was told: {last}");
        assert_eq!(new.last_commit().expect("read"), before);
        new.give_up();
    }
}

#[test]
fn control_without_the_fence_a_leader_that_stood_still_goes_on_writing() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let address = server.address("postgres");
    let mut old = Leader::start(&address, false);
    assert_eq!(old.step(), "committed 1");
    old.signal(Signal::STOP);
    run_out(&server);
    let mut new = leading_in_the_end(&options(&address, "new"));
    assert_eq!(new.commit(&[put(pending(OTHERS))]).expect("it leads"), 2);
    old.signal(Signal::CONT);
    assert_eq!(old.step(), "committed 3");
}
