//! The network `egress` of an ordinary user: root makes a small world and a fresh user, and runs
//! the tests below `inside` as that user there. Every "cannot" stands beside a try that can.

#[path = "users_egress/inside.rs"]
mod inside;

use super::bench;
use super::ordinary_user::{Lent, OrdinaryUser};
use super::outside::{hide_program, ip, open_tun, put_over, serve_names, with_world};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Tells a test that it is run by this file, in a world.
const IN_A_WORLD: &str = "INSULA_TEST_WORLD";
/// What a test says that is not run by this file.
const NOT_HERE: &str = "another test runs it, in a world";
/// Before what a test tells the one that runs it.
const TOLD: &str = "told: ";
/// Where names are asked that only the node can ask.
const STUB: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// An address that the node gets while a container runs, and one it gets when nobody follows.
const LATER: [Ipv4Addr; 2] = [
    Ipv4Addr::new(203, 0, 113, 77),
    Ipv4Addr::new(203, 0, 113, 78),
];

/// Root's part of a test: a user who has its programs in place.
struct Stage {
    user: OrdinaryUser,
    tests: PathBuf,
}

/// Runs `test` in a world where users can open the tun device, with a fresh user.
fn on_stage(lent: Lent, test: impl FnOnce(&Stage) + Send) {
    with_world(|| {
        for program in ["/usr/bin/pasta", "/usr/sbin/nft"] {
            if !Path::new(program).exists() {
                println!("skipped: there is no {program} (packages passt and nftables)");
                return;
            }
        }
        if !open_tun(&format!("nameserver {STUB}\n")) {
            return;
        }
        let Some(user) = OrdinaryUser::make(lent) else {
            return;
        };
        serve_names((STUB, 53).into());
        let own = std::env::current_exe().expect("this test");
        let tests = user.install(&own, "tests");
        user.install(&bench::launcher().executable, bench::INSTALLED_LAUNCHER);
        let stage = Stage { user, tests };
        test(&stage);
        assert_eq!(stage.user.processes(), [0; 0], "processes are left");
    });
}

impl Stage {
    fn start(&self, name: &str) -> Child {
        let mut command = self.user.command_with_groups(&self.tests);
        command
            .args([
                "--exact",
                &format!("users_egress::inside::{name}"),
                "--nocapture",
            ])
            .env(IN_A_WORLD, "1")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().expect("it starts")
    }

    fn run(&self, name: &str) {
        let output = self.start(name).wait_with_output().expect("it ran");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert!(output.status.success(), "{name}: {text}");
        assert!(text.contains("1 passed"), "{name}: {text}");
        assert!(!text.contains(NOT_HERE), "{name}: {text}");
    }
}

#[test]
fn a_user_who_is_lent_nothing_gets_out_and_nowhere_else() {
    on_stage(Lent::Nothing, |stage| {
        for name in inside::NAMES {
            stage.run(name);
        }
    });
}

#[test]
fn a_user_with_a_range_of_ids_gets_out_and_nowhere_else() {
    on_stage(Lent::Range, |stage| {
        for name in inside::NAMES {
            stage.run(name);
        }
    });
}

/// What the set of the node's addresses says in the network of this process.
fn rules_of(keeper: i32) -> String {
    let network = format!("--net=/proc/{keeper}/ns/net");
    let output = process::command("/usr/bin/nsenter")
        .args([
            &network,
            "/usr/sbin/nft",
            "list",
            "set",
            "inet",
            "insula",
            "node",
        ])
        .output()
        .expect("it runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn await_so(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + bench::patience();
    while !condition() {
        assert!(Instant::now() < deadline, "it never came to be: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Addresses that the node gets while a container runs are closed to it before long, because its
/// keeper follows them. The control: one that it gets while the keeper stands still is reached.
#[test]
fn addresses_that_come_later_are_followed() {
    on_stage(Lent::Nothing, |stage| {
        let mut child = stage.start("tries_addresses_that_come_later");
        let stdout = child.stdout.take().expect("a pipe");
        let mut lines = BufReader::new(stdout).lines();
        let told = lines.find_map(|line| {
            let line = line.expect("text");
            let place = line.find(TOLD)?;
            Some(line[place + TOLD.len()..].to_owned())
        });
        let Some(told) = told else {
            let mut errors = String::new();
            let stderr = child.stderr.as_mut().expect("a pipe");
            stderr.read_to_string(&mut errors).expect("text");
            panic!("it told nothing: {errors}");
        };
        let (keeper, go) = told.split_once(' ').expect("two words");
        let keeper: i32 = keeper.parse().expect("a number");
        let go = Path::new(go);
        let [followed, missed] = LATER;
        ip(&format!("addr add {followed}/24 dev uplink"));
        await_so("it is followed", || {
            rules_of(keeper).contains("203.0.113.77")
        });
        // What goes is followed as well.
        ip(&format!("addr del {followed}/24 dev uplink"));
        await_so("it is forgotten", || {
            !rules_of(keeper).contains("203.0.113.77")
        });
        let pid = rustix::process::Pid::from_raw(keeper).expect("a pid");
        // Its removal ends it, also so.
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("sent");
        ip(&format!("addr add {missed}/24 dev uplink"));
        fs::write(go, "go").expect("written");
        let rest: Vec<String> = lines.map(|line| line.expect("text")).collect();
        let output = child.wait_with_output().expect("it ran");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{rest:#?} {errors}");
    });
}

/// A `pasta` that makes its device and route and ends before it carries anything, as often as a
/// file says. Like newer releases it tells of its gateway at once, and like older ones that fail
/// then it may answer what it is asked first.
const FAILING: &str = r#"#!/usr/bin/python3 -IS
import ctypes, fcntl, os, select, signal, struct, subprocess, sys, time
words = sys.argv[1:]
fails, real = "DIRECTORY/home/fails", "DIRECTORY/real/pasta"
value = lambda option: words[words.index(option) + 1]
with open(fails) as file:
    left = int(file.read())
if left == 0 or "--netns" not in words:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execv(real, [real, *words])
with open(fails, "w") as file:
    file.write(str(left - 1))
network = os.open(value("--netns"), os.O_RDONLY)
assert ctypes.CDLL(None).setns(network, 0) == 0
tap = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tap, 0x400454CA, struct.pack("16sH22x", b"eth0", 0x1002))
address, gateway = value("--address"), value("--gateway")
acts = f"addr add {address}/30 dev eth0\nlink set eth0 up\nroute add default via {gateway}\n"
places = {"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}
subprocess.run(["ip", "-batch", "-"], input=acts.encode(), check=True, env=places)
number = lambda address: bytes(map(int, address.split(".")))
device, everybody = b"\2\0\0\0\0\1", b"\xff" * 6
def packet(operation, to):
    head = to + device + b"\x08\x06" + struct.pack("!HHBBH", 1, 0x800, 6, 4, operation)
    return head + device + number(gateway) + to + number(address)
os.write(tap, packet(1, everybody))
time.sleep(0.1)
end = time.monotonic() + 0.3
answers = left % 2
while select.select([tap], [], [], max(0, end - time.monotonic()))[0]:
    asked = os.read(tap, 2000)
    if answers and asked[12:14] == b"\x08\x06" and asked[38:42] == number(gateway):
        answers = 0
        os.write(tap, packet(2, asked[6:12]))
sys.exit("out of luck")
"#;

/// An `nft` that fails once if a file is there, as where the user may have no more processes.
const FAILING_ONCE: &str = r#"#!/bin/sh
if test -e DIRECTORY/home/refuse; then
    rm DIRECTORY/home/refuse
    exit 1
fi
exec DIRECTORY/real/nft "$@"
"#;

/// A start that fails is tried again before the container begins. The control: where each fails,
/// the container is refused.
#[test]
fn a_pasta_that_fails_at_first_is_started_again() {
    on_stage(Lent::Nothing, |stage| {
        let directory = stage.tests.parent().expect("a directory");
        stage.user.make_directory(&directory.join("real"));
        for (program, script) in [("/usr/bin/pasta", FAILING), ("/usr/sbin/nft", FAILING_ONCE)] {
            let program = Path::new(program);
            let name = program.file_name().expect("a name").to_string_lossy();
            stage.user.install(program, &format!("real/{name}"));
            let file = directory.join("failing");
            let script = script.replace("DIRECTORY", &directory.display().to_string());
            fs::write(&file, script).expect("written");
            put_over(&stage.user.install(&file, &name), program);
        }
        stage.run("gets_out_after_starts_that_failed");
    });
}

/// Without the device, or the program, there is no way out, and the row says what root can do.
#[test]
fn what_is_missing_is_told() {
    with_world(|| {
        let Some(user) = OrdinaryUser::make(Lent::Nothing) else {
            return;
        };
        let own = std::env::current_exe().expect("this test");
        let tests = user.install(&own, "tests");
        user.install(&bench::launcher().executable, bench::INSTALLED_LAUNCHER);
        let stage = Stage { user, tests };
        stage.run("is_refused_without_the_device");
        if open_tun("") {
            hide_program("pasta");
            stage.run("is_refused_without_the_program");
        }
    });
}
