//! The network `egress` through the executable, on a node of a small world: it outlives the daemon,
//! what it promises holds meanwhile, and nothing of it is left.

use crate::outside::{NODE, SERVER, TCP_PORT, ip, nft, open_tun, with_world};
use crate::person::Person;
use crate::site::{Site, eventually, is_alive, site, text};
use std::fs;
use std::path::PathBuf;

/// Tries to reach a server beyond the node and the node itself, again and again, and writes a line
/// for each round: what the server said, and what the node did.
const ROUNDS: &str = r#"
import socket, sys, time
def tried(address):
    try:
        with socket.create_connection((address, int(sys.argv[3])), timeout=5) as stream:
            return stream.recv(100).decode()
    except OSError:
        return "cannot"
while True:
    print(tried(sys.argv[1]), "|", tried(sys.argv[2]), flush=True)
    time.sleep(0.1)
"#;

/// The arguments that run it in a session.
fn arguments() -> Vec<String> {
    let words = [
        "run",
        "--detach",
        "--name",
        "out",
        "--network",
        "egress",
        "--",
    ];
    let mut all: Vec<String> = words.map(str::to_owned).into();
    all.extend(["python3", "-c", ROUNDS].map(str::to_owned));
    all.extend([SERVER.to_string(), NODE.to_string(), TCP_PORT.to_string()]);
    all
}

/// A round in which everything is as promised.
fn as_promised() -> String {
    format!("outside sees {NODE} | cannot")
}

/// The lines of the only member below `home`, read where the guest writes them.
fn lines(home: &std::path::Path) -> Vec<String> {
    let read = |path: &std::path::Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let members = read(&home.join("node/members"));
    let logs = members.iter().flat_map(|member| read(&member.join("logs")));
    let texts = logs.map(|path| fs::read(path).unwrap_or_default());
    let text = String::from_utf8_lossy(&texts.collect::<Vec<_>>().concat()).into_owned();
    // The streams' index is no text.
    let rounds = text.lines().filter(|line| line.contains(" | "));
    rounds.map(str::to_owned).collect()
}

/// Waits for two more rounds, of which the second began after this, and gives it.
fn next_round(home: &std::path::Path) -> String {
    let before = lines(home).len();
    let mut now = Vec::new();
    eventually("it tries again", || {
        now = lines(home);
        now.len() >= before + 2
    });
    now[before + 1].clone()
}

/// Our devices and tables on this thread's node.
fn traces() -> (String, String) {
    let devices = ip("-o link");
    let ours = devices.lines().filter(|line| line.contains(": ins"));
    (ours.collect(), nft("list tables"))
}

fn in_a_world(test: impl FnOnce(Site) + Send) {
    with_world(|| {
        if let Some(site) = site() {
            test(site);
        }
    });
}

#[test]
fn egress_outlives_the_daemon_and_leaves_nothing() {
    in_a_world(|site| {
        site.ok(&arguments());
        site.await_state("out", "running");
        assert_eq!(next_round(&site.home()), as_promised());
        site.kill_daemon();
        assert_eq!(next_round(&site.home()), as_promised(), "without a daemon");
        assert_eq!(site.state("out"), "running");
        assert_eq!(
            next_round(&site.home()),
            as_promised(),
            "with the next daemon"
        );
        let (devices, tables) = traces();
        assert!(devices.contains(": ins") && tables.contains("inet insula_"));
        flushed_rules_are_put_back(&site);
        site.ok(&["rm", "--force", "out"]);
        eventually("its devices are gone", || traces().0.is_empty());
        eventually("the rules are gone", || traces().1.is_empty());
        let routes = ip("route show table all");
        assert!(!routes.contains("10.213."), "{routes}");
        assert!(!ip("addr show").contains("10.213."));
    });
}

/// What a firewall does that is loaded anew. While no daemon lives, nobody mends, so that nothing is
/// reached: neither the node, for the rules inside, nor what is beyond it. (The control without
/// the rules inside is a test of the sandbox's.)
fn flushed_rules_are_put_back(site: &Site) {
    let made = nft("list ruleset");
    nft("flush ruleset");
    eventually("the rules are as they were", || nft("list ruleset") == made);
    assert_eq!(next_round(&site.home()), as_promised());
    eventually("doctor tells it", || {
        let doctor = text(&site.insula(&["doctor"]).stdout);
        doctor.contains("somebody else changed the rules of egress once at")
    });
    site.kill_daemon();
    nft("flush ruleset");
    assert_eq!(next_round(&site.home()), "cannot | cannot");
    assert_eq!(site.state("out"), "running");
    eventually("the rules are as they were", || nft("list ruleset") == made);
    assert_eq!(
        next_round(&site.home()),
        as_promised(),
        "mended by the next"
    );
}

#[test]
fn egress_of_an_ordinary_user_outlives_the_daemon_and_leaves_nothing() {
    with_world(|| {
        if !open_tun(&format!("nameserver {SERVER}\n")) {
            return;
        }
        let Some(person) = Person::new(crate::ordinary_user::Lent::Nothing) else {
            return;
        };
        let arguments = arguments();
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let home = person.site_home();
        person.ok(&words);
        assert_eq!(next_round(&home), as_promised());
        let before = person.daemon();
        crate::site::signal(before, 9);
        eventually("the daemon is gone", || !is_alive(before));
        assert_eq!(next_round(&home), as_promised(), "without a daemon");
        assert!(person.ok(&["ls"]).0.contains("running"));
        assert_eq!(next_round(&home), as_promised(), "with the next daemon");
        let (doctor, _) = person.ok(&["doctor"]);
        assert!(doctor.contains("network.egress"), "{doctor}");
        assert!(!doctor.contains("network gone"), "{doctor}");
        network_that_is_gone_is_told(&person);
        person.ok(&["rm", "--force", "out"]);
        let (doctor, _) = person.ok(&["doctor"]);
        assert!(!doctor.contains("network gone"), "{doctor}");
        eventually("its keeper and its carrier are gone", || {
            carriers(&person).is_empty()
        });
        person.ok(&["down", "--stop"]);
        eventually("no process is left", || person.user.processes().is_empty());
    });
}

/// Processes of the person that carry a network.
fn carriers(person: &Person) -> Vec<i32> {
    let mut processes = person.user.processes();
    processes.retain(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm"));
        name.is_ok_and(|name| name.starts_with("pas"))
    });
    processes
}

/// It is not made again, which the log and doctor say; the session lives.
fn network_that_is_gone_is_told(person: &Person) {
    let carriers = carriers(person);
    assert_eq!(carriers.len(), 1, "{carriers:?}");
    crate::site::signal(carriers[0], 9);
    let home = person.site_home();
    eventually("doctor tells it", || {
        let (doctor, _) = person.ok(&["doctor"]);
        doctor.contains("network gone") && doctor.contains("pasta ended")
    });
    assert_eq!(next_round(&home), "cannot | cannot");
    let log = fs::read_to_string(home.join("daemon.log")).expect("a log");
    assert!(log.contains("is gone, and does not come back"), "{log}");
    assert!(person.ok(&["ls"]).0.contains("running"));
    let (shown, _) = person.ok(&["show", "out"]);
    assert!(
        shown.contains("network gone") && shown.contains("pasta ended"),
        "{shown}"
    );
}

/// Without the device that `pasta` needs, the request is refused by its row, with what mends it.
#[test]
fn egress_of_an_ordinary_user_is_refused_with_what_is_missing() {
    with_world(|| {
        let Some(person) = Person::new(crate::ordinary_user::Lent::Nothing) else {
            return;
        };
        let errors = person.fails(&["run", "--network", "egress", "--", "true"], 125);
        assert!(errors.contains("network.egress"), "{errors}");
        let (doctor, _) = person.ok(&["doctor"]);
        assert!(doctor.contains("chmod 0666 /dev/net/tun"), "{doctor}");
        person.ok(&["run", "--network", "none", "--", "true"]);
        person.ok(&["down", "--stop"]);
        eventually("no process is left", || person.user.processes().is_empty());
    });
}
