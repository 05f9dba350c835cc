//! Who a command is, and what it sees of the node.

use super::bench::{bench, eventually, is_root, output, roots_bench};
use domain::Network;
use guest_api::Stream;
use std::fs;

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in {status}"))
        .trim()
}

#[tokio::test]
async fn a_command_runs_and_its_record_is_written() {
    let Some(bench) = bench() else { return };
    let finished = bench
        .run(&bench.container(0, "echo out; echo err >&2; exit 7"))
        .await;
    assert_eq!(
        (finished.output.as_str(), finished.errors.as_str()),
        ("out\n", "err\n")
    );
    assert_eq!(finished.exit_code(), Some(7), "{finished:?}");
}

#[tokio::test]
async fn a_command_has_no_privileges_and_cannot_get_any() {
    let Some(bench) = bench() else { return };
    let status = bench.output_of("cat /proc/self/status").await;
    assert_eq!(field(&status, "Uid:"), "1000\t1000\t1000\t1000");
    assert_eq!(field(&status, "Gid:"), "1000\t1000\t1000\t1000");
    assert_eq!(field(&status, "Groups:"), "");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(&status, set), "0000000000000000", "{set}");
    }
    assert_eq!(field(&status, "NoNewPrivs:"), "1");
    assert_eq!(field(&status, "Seccomp:"), "2");
    // The control: this process has what the command has not.
    let own = fs::read_to_string("/proc/self/status").expect("read");
    if is_root() {
        assert_ne!(field(&own, "CapPrm:"), "0000000000000000");
    }
    assert_eq!(field(&own, "NoNewPrivs:"), "0");
}

#[tokio::test]
async fn its_ids_on_the_node_are_its_own() {
    let Some(bench) = roots_bench() else { return };
    let container = bench.container(0, "touch /work/mine; echo there; exec sleep 50");
    bench.start(&container).await.expect("it starts");
    eventually("it says so", || {
        output(&container, Stream::Stdout) == "there\n"
    })
    .await;
    let processes = super::bench::read_group("pids", container.member, "cgroup.procs");
    let uids: Vec<String> = processes
        .lines()
        .map(|pid| fs::read_to_string(format!("/proc/{pid}/status")).expect("alive"))
        .map(|status| field(&status, "Uid:").to_owned())
        .collect();
    let ids = |inside: u32| {
        let id = container.uids.shifted(inside);
        format!("{id}\t{id}\t{id}\t{id}")
    };
    assert!(uids.contains(&ids(1_000)), "the command: {uids:?}");
    assert!(uids.contains(&ids(65_535)), "the guest: {uids:?}");
    assert_eq!(uids.len(), 2);
    bench.remove(&container).await;
}

#[tokio::test]
async fn it_sees_its_own_host_name_and_processes_only() {
    let Some(bench) = bench() else { return };
    let output = bench
        .output_of("hostname; cat /etc/hostname; getent hosts tester; ls /proc | grep -c '^[0-9]'")
        .await;
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[..2], ["tester", "tester"]);
    assert!(lines[2].starts_with("127.0.1.1"), "{output}");
    let processes: u32 = lines[3].parse().expect("a number");
    assert!(processes <= 5, "guest, sh, ls, grep: {output}");
}

#[tokio::test]
async fn dangerous_parts_of_proc_and_sys_are_hidden_or_closed() {
    let Some(bench) = bench() else { return };
    let script = "for f in kcore keys key-users timer_list; do \
        [ ! -e /proc/$f ] || wc -c < /proc/$f; done | sort -u; \
        ls -A /sys/firmware /sys/block /sys/devices/virtual/block | grep -v :; \
        for f in /proc/sysrq-trigger /proc/sys/kernel/core_pattern /proc/irq/x /sys/x; do \
        (echo x > $f) 2>/dev/null && echo written $f; done; \
        grep -cE ' /(proc/(sys|irq|fs)|sys|dev) ro,' /proc/self/mountinfo";
    let mut container = bench.container(0, "");
    super::bench::as_root(&mut container, script);
    let finished = bench.run(&container).await;
    let words: Vec<&str> = finished.output.split_whitespace().collect();
    assert_eq!(words, ["0", "5"], "{finished:?}");
    if is_root() {
        // The control: outside these have a content.
        assert_ne!(fs::read("/proc/timer_list").expect("read").len(), 0);
        for path in ["/sys/block", "/sys/devices/virtual/block"] {
            assert_ne!(fs::read_dir(path).expect("listed").count(), 0, "{path}");
        }
    }
}

#[tokio::test]
async fn without_a_network_there_is_only_a_loopback_that_works() {
    let Some(bench) = bench() else { return };
    let script = "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '; python3 -c '
import socket
listener = socket.create_server((\"127.0.0.1\", 0))
client = socket.create_connection(listener.getsockname())
print(\"connected\")'; ls /sys/class/net";
    assert_eq!(bench.output_of(script).await, "lo\nconnected\nlo\n");
}

#[tokio::test]
async fn the_nodes_network_is_the_nodes() {
    let Some(bench) = bench() else { return };
    let mut container = bench.container(0, "cut -d: -f1 /proc/net/dev; ls /sys/class/net");
    container.network = Network::Host;
    let finished = bench.run(&container).await;
    let devices = fs::read_to_string("/proc/net/dev").expect("read");
    for line in devices.lines().skip(2) {
        let name = line.split(':').next().expect("a name");
        let seen = finished.output.matches(name.trim()).count();
        assert!(seen >= 2, "{name}: {finished:?}");
    }
}

#[tokio::test]
async fn devices_are_the_harmless_ones() {
    let Some(bench) = bench() else { return };
    let script = "ls -m /dev; echo gone > /dev/null; head -c4 /dev/urandom | wc -c; \
        mknod /tmp/disk b 254 0 2>&1 | grep -o 'not permitted'; \
        python3 -c 'import pty; a, b = pty.openpty(); print(\"terminal\")'; \
        (echo x > /dev/new) 2>/dev/null || echo closed";
    let mut container = bench.container(0, "");
    super::bench::as_root(&mut container, script);
    let output = bench.run(&container).await.output;
    assert_eq!(
        output.replace(",\n", ", "),
        "fd, full, null, ptmx, pts, random, shm, stderr, stdin, stdout, tty, urandom, zero\n\
         4\nnot permitted\nterminal\nclosed\n"
    );
}
