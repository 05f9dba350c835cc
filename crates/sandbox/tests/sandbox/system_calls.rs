//! Which system calls a command can make. Python's ctypes makes them as they are.

use super::bench::{as_root, bench};

/// Prints for each call its name and the error's name.
const SCRIPT: &str = r#"python3 -c '
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
def call(name, number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(number, *arguments)
    error = ctypes.get_errno()
    print(name, "done" if result != -1 else errno.errorcode[error], flush=True)
NEWUSER, NEWNS = 0x10000000, 0x20000
call("unshare", 272, NEWUSER)
call("mount", 165, b"none", b"/tmp", b"tmpfs", 0, None)
call("umount2", 166, b"/tmp", 0)
call("pivot_root", 155, b"/", b"/")
call("open_tree", 428, -100, b"/", 1)
call("mount_setattr", 442, -100, b"/", 0, None, 0)
call("setns", 308, 0, 0)
call("clone", 56, NEWUSER | 17, 0, 0, 0, 0)
call("clone3", 435, 0, 0)
call("unknown", 1000)
call("keyctl", 250, 0, 0)
call("add_key", 248, b"user", b"x", b"y", 1, -2)
call("bpf", 321, 0, 0, 0)
call("perf_event_open", 298, 0, 0, -1, -1, 0)
call("userfaultfd", 323, 0)
call("io_uring_setup", 425, 1, 0)
call("kexec_load", 246, 0, 0, 0, 0)
call("init_module", 175, 0, 0, 0)
call("reboot", 169, 0, 0, 0, 0)
call("syslog", 103, 10, 0, 0)
call("open_by_handle_at", 304, -1, 0, 0)
call("settimeofday", 164, 0, 0)
call("TIOCSTI", 16, 0, 0x5412, b"x")
call("TIOCSTI, upper half set", 16, 0, 0x5412 | 1 << 40, b"x")
call("personality", 135, 0x0400000)
call("AF_VSOCK", 41, 40, 1, 0)
call("AF_ALG", 41, 38, 5, 0)
call("AF_PACKET", 41, 17, 3, 0)
call("NETLINK_AUDIT", 41, 16, 3, 9)
call("NETLINK_KOBJECT_UEVENT", 41, 16, 3, 15)
call("AF_INET", 41, 2, 1, 0)
call("AF_UNIX", 41, 1, 1, 0)
call("NETLINK_ROUTE", 41, 16, 3, 0)
call("memfd_create", 319, b"x", 0)
call("getpid", 39)
'"#;

#[cfg(target_arch = "x86_64")]
#[tokio::test]
async fn forbidden_calls_are_refused_and_unknown_ones_do_not_exist() {
    let Some(bench) = bench() else { return };
    // As root inside, so that it is the filter that refuses, not a missing capability.
    let mut container = bench.container(0, "");
    as_root(&mut container, SCRIPT);
    let finished = bench.run(&container).await;
    let mut count = 0;
    for line in finished.output.lines() {
        let (name, seen) = line.rsplit_once(' ').expect("two words");
        let expected = match name {
            "clone3" | "unknown" => "ENOSYS",
            // As a kernel answers that has none: programs go on without.
            "NETLINK_AUDIT" | "NETLINK_KOBJECT_UEVENT" => "EPROTONOSUPPORT",
            "AF_INET" | "AF_UNIX" | "NETLINK_ROUTE" | "memfd_create" | "getpid" => "done",
            _ => "EPERM",
        };
        assert_eq!(seen, expected, "{name}");
        count += 1;
    }
    assert_eq!(count, 35, "{finished:?}");
}

/// The control: outside, the same calls are known, and the harmless ones of them succeed.
#[cfg(target_arch = "x86_64")]
#[test]
fn the_same_calls_are_known_outside() {
    let script = SCRIPT.replace("call(\"reboot\"", "0 and call(\"reboot\"");
    let script = script.replace("call(\"umount2\"", "0 and call(\"umount2\"");
    let script = script.replace("call(\"mount\"", "0 and call(\"mount\"");
    let script = script.replace("call(\"pivot_root\"", "0 and call(\"pivot_root\"");
    let script = script.replace("call(\"settimeofday\"", "0 and call(\"settimeofday\"");
    // A clone that succeeds would run the rest of the script twice.
    let script = script.replace("call(\"clone\"", "0 and call(\"clone\"");
    let output = process::command("sh")
        .args(["-c", &script])
        .stdin(std::process::Stdio::null())
        .output()
        .expect("sh runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for line in [
        "unshare done",
        "add_key done",
        "personality done",
        "unknown ENOSYS",
        "NETLINK_KOBJECT_UEVENT done",
    ] {
        assert!(text.lines().any(|seen| seen == line), "{line}: {text}");
    }
    assert!(!text.contains("clone3 ENOSYS"), "{text}");
}

#[tokio::test]
async fn programs_that_use_many_calls_run() {
    let Some(bench) = bench() else { return };
    let script = "python3 -c '
import concurrent.futures, multiprocessing, subprocess, tempfile, threading, socket, os, asyncio
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    assert sum(pool.map(lambda n: n * n, range(10))) == 285
with multiprocessing.get_context(\"fork\").Pool(2) as pool:
    assert pool.map(abs, [-1, 2]) == [1, 2]
assert subprocess.run([\"true\"]).returncode == 0
asyncio.run(asyncio.sleep(0))
print(\"fine\")'";
    assert_eq!(bench.output_of(script).await, "fine\n");
}
