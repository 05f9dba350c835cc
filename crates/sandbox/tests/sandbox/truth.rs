//! What a container is told of its machine is its own share: by every probe that programs use, and
//! beside a control on the node that tells of the node.

use super::bench::{Bench, as_root, bench, is_root, limited_bench, read_group};
use engine_api::ContainerSpec;
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;

/// Prints what each probe says, as `name value`.
const CPU_PROBES: &str = r#"
import ctypes, os, re, subprocess
libc = ctypes.CDLL(None)
def numbers(text):
    spans = [part.split("-") for part in text.strip().split(",")]
    return sum(int(span[-1]) - int(span[0]) + 1 for span in spans)
def read(path):
    return open(path).read()
def told(name, value):
    print(name, value)
told("os.cpu_count", os.cpu_count())
told("sched_getaffinity", len(os.sched_getaffinity(0)))
told("sysconf_online", os.sysconf("SC_NPROCESSORS_ONLN"))
told("sysconf_configured", os.sysconf("SC_NPROCESSORS_CONF"))
told("get_nprocs", libc.get_nprocs())
told("get_nprocs_conf", libc.get_nprocs_conf())
told("nproc", int(subprocess.check_output(["nproc"])))
told("nproc_all", int(subprocess.check_output(["nproc", "--all"])))
told("getconf", int(subprocess.check_output(["getconf", "_NPROCESSORS_ONLN"])))
told("cpuinfo", len(re.findall("^processor", read("/proc/cpuinfo"), re.M)))
packages = dict(re.findall("^physical id\\s*: (.*)\nsiblings\\s*: (.*)$", read("/proc/cpuinfo"), re.M))
if packages:
    told("cpuinfo_siblings", sum(map(int, packages.values())))
told("stat", len(re.findall("^cpu[0-9]", read("/proc/stat"), re.M)))
for name in ["online", "possible", "present"]:
    told("sys_" + name, numbers(read("/sys/devices/system/cpu/" + name)))
names = os.listdir("/sys/devices/system/cpu")
told("sys_directories", len([name for name in names if re.fullmatch("cpu[0-9]+", name)]))
if os.path.exists("/bin/busybox"):
    told("static_nproc", int(subprocess.check_output(["/bin/busybox", "nproc"])))
"#;

/// The least and the most seconds that a machine which was booted with the container has been up.
const SESSION_SECONDS: std::ops::Range<f64> = 0.0..120.0;

fn python(script: &str) -> String {
    format!("exec python3 - <<'END'\n{script}\nEND")
}

fn with_cpu(bench: &Bench, number: u32, cpu: u64, script: &str) -> ContainerSpec {
    let mut container = bench.container(number, &python(script));
    container.limits.cpu = cpu;
    container
}

fn values(output: &str) -> BTreeMap<String, i64> {
    let lines = output.lines().filter_map(|line| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    });
    lines.collect()
}

/// The same probes on the node.
fn on_the_node(script: &str) -> BTreeMap<String, i64> {
    let output = process::command("python3").args(["-c", script]).output();
    values(&String::from_utf8(output.expect("it runs").stdout).expect("text"))
}

#[tokio::test]
async fn every_probe_tells_the_containers_cpus() {
    let Some(bench) = bench() else { return };
    let node = on_the_node(CPU_PROBES);
    let all = node["sched_getaffinity"];
    for (number, (cpu, expected)) in (0..).zip([(10_000, 1), (20_000, 2), (2_500, 1), (15_000, 2)])
    {
        let finished = bench.run(&with_cpu(&bench, number, cpu, CPU_PROBES)).await;
        let told = values(&finished.output);
        assert_eq!(told.len(), node.len(), "{finished:?}");
        let expected = all.min(expected);
        let wrong: Vec<_> = told.iter().filter(|(_, n)| **n != expected).collect();
        assert!(wrong.is_empty(), "{cpu}: {wrong:?}");
    }
    // The control: outside each tells of the node, which has more than one.
    if all > 1 {
        let alike: Vec<_> = node.iter().filter(|(_, n)| **n == 1).collect();
        assert!(alike.is_empty(), "{alike:?}");
    }
}

#[tokio::test]
async fn whole_cpus_are_kept_to_and_parts_are_not() {
    let Some(bench) = bench() else { return };
    let real = "import re\n\
         print(re.search('Cpus_allowed_list:\\s*(.*)', open('/proc/self/status').read())[1])\n\
         import os; print(sorted(os.sched_getaffinity(0)))\n\
         print(open('/sys/devices/system/cpu/online').read().strip())";
    let status = |finished: &super::bench::Finished| {
        let lines: Vec<String> = finished.output.lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 3, "{finished:?}");
        lines
    };
    let whole = status(&bench.run(&with_cpu(&bench, 0, 10_000, real)).await);
    let part = status(&bench.run(&with_cpu(&bench, 1, 5_000, real)).await);
    if on_the_node(CPU_PROBES)["sched_getaffinity"] < 2 {
        return;
    }
    assert_eq!(whole[0], whole[2], "it is kept to what it is shown");
    assert_ne!(part[0], part[2], "it runs wherever there is time");
    assert_eq!(part[1], format!("[{}]", part[2]), "and is shown one");
    assert!(!whole[0].contains(['-', ',']), "{whole:?}");
}

#[tokio::test]
async fn a_process_that_keeps_itself_to_fewer_is_told_so() {
    let Some(bench) = bench() else { return };
    let script = "import os\n\
         shown = os.sched_getaffinity(0)\n\
         os.sched_setaffinity(0, shown)\n\
         print(os.sched_getaffinity(0) == shown)\n\
         os.sched_setaffinity(0, {0})\n\
         print(os.sched_getaffinity(0))\n\
         try: os.sched_getaffinity(4_000_000)\n\
         except ProcessLookupError: print('nobody')";
    let finished = bench.run(&with_cpu(&bench, 0, 5_000, script)).await;
    assert_eq!(finished.output, "True\n{0}\nnobody\n", "{finished:?}");
}

/// What tells of memory, in bytes.
const MEMORY_PROBES: &str = r#"
import os, re, subprocess
def read(path):
    return open(path).read()
page = os.sysconf("SC_PAGE_SIZE")
print("sysconf", os.sysconf("SC_PHYS_PAGES") * page)
print("meminfo", int(re.search("MemTotal:\\s*(\\d+) kB", read("/proc/meminfo"))[1]) * 1024)
print("swap", int(re.search("SwapTotal:\\s*(\\d+) kB", read("/proc/meminfo"))[1]))
print("free", int(subprocess.check_output(["free", "-b"]).split()[7]))
if os.path.exists("/bin/busybox"):
    print("static_free", int(subprocess.check_output(["/bin/busybox", "free", "-b"]).split()[7]))
for path in ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]:
    if os.path.exists(path):
        print("group", int(read(path)))
"#;

#[tokio::test]
async fn every_probe_tells_the_containers_memory() {
    let Some(bench) = limited_bench() else { return };
    let mut container = bench.container(0, &python(MEMORY_PROBES));
    container.limits.memory_bytes = 96 << 20;
    let finished = bench.run(&container).await;
    let mut told = values(&finished.output);
    assert_eq!(told.remove("swap"), Some(0), "{finished:?}");
    assert!(told.contains_key("group"), "{finished:?}");
    let node = on_the_node(MEMORY_PROBES);
    for (name, bytes) in told {
        assert_eq!(bytes, 96 << 20, "{name}: {finished:?}");
        // The control.
        if name != "group" {
            assert_ne!(node[&name], bytes, "{name}");
        }
    }
}

#[tokio::test]
async fn what_is_used_is_told_as_it_is_now() {
    let Some(bench) = limited_bench() else { return };
    let script = r#"
import re, time
def free(file):
    file.seek(0)
    return int(re.search(r"MemFree:\s*(\d+) kB", file.read())[1]) // 1024
with open("/proc/meminfo") as kept:
    before = free(kept)
    memory = bytearray(b"x" * (64 << 20))
    with open("/proc/meminfo") as anew:
        pass
    deadline = time.monotonic() + 10
    while free(kept) > before - 60 and time.monotonic() < deadline:
        time.sleep(0.1)
    print("kept open", before - free(kept) >= 60)
time.sleep(2.5)
with open("/proc/meminfo") as anew:
    full = free(anew)
del memory
time.sleep(2.5)
with open("/proc/meminfo") as anew:
    print("opened", free(anew) - full >= 60)
def busy():
    words = open("/proc/stat").readline().split()
    return int(words[1]) + int(words[3])
time.sleep(2.5)
before, until = busy(), time.process_time() + 0.5
while time.process_time() < until:
    pass
time.sleep(2.5)
print("cpu", busy() - before >= 40)
print("load", float(open("/proc/loadavg").read().split()[0]) > 0)
"#;
    let finished = bench.run(&bench.container(0, &python(script))).await;
    let expected = "kept open True\nopened True\ncpu True\nload True\n";
    assert_eq!(finished.output, expected, "{finished:?}");
}

#[tokio::test]
async fn many_who_ask_at_once_are_all_answered() {
    let Some(bench) = limited_bench() else { return };
    let script = r#"
import os, signal
signal.signal(signal.SIGALRM, lambda *_: None)
# A call that is interrupted before it was taken up goes on only where the handler wants that.
signal.siginterrupt(signal.SIGALRM, False)
right = 96 << 20
def ask():
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    page = os.sysconf("SC_PAGE_SIZE")
    for _ in range(500):
        if os.sysconf("SC_PHYS_PAGES") * page != right or len(os.sched_getaffinity(0)) != 1:
            os._exit(1)
        open("/proc/meminfo").read()
    os._exit(0)
children = []
for _ in range(8):
    child = os.fork()
    if child == 0:
        ask()
    children.append(child)
print(sum(os.waitpid(child, 0)[1] for child in children))
"#;
    let mut container = with_cpu(&bench, 0, 5_000, script);
    container.limits.memory_bytes = 96 << 20;
    let finished = bench.run(&container).await;
    assert_eq!(finished.output, "0\n", "{finished:?}");
}

#[tokio::test]
async fn its_clock_since_boot_begins_with_it() {
    let Some(bench) = bench() else { return };
    let script = "import subprocess, time\n\
         print(float(open('/proc/uptime').read().split()[0]))\n\
         print(time.clock_gettime(time.CLOCK_BOOTTIME))\n\
         started = int(open('/proc/self/stat').read().rsplit(')')[1].split()[19]) / 100\n\
         print(started)";
    let finished = bench.run(&bench.container(0, &python(script))).await;
    let told = finished
        .output
        .lines()
        .map(|line| line.parse::<f64>().expect("a number"));
    let told: Vec<f64> = told.collect();
    assert_eq!(told.len(), 3, "{finished:?}");
    assert!(
        told.iter().all(|seconds| SESSION_SECONDS.contains(seconds)),
        "{told:?}"
    );
    // The control: the node has been up for longer than that, or it could not tell them apart.
    let node = clock_gettime(ClockId::Boottime).tv_sec;
    assert!(node > 120 || told[0] < 30.0, "{node}");
}

#[tokio::test]
async fn its_control_group_is_seen_and_closed() {
    let Some(bench) = limited_bench() else { return };
    let script = "cd /sys/fs/cgroup || exit; \
        for f in $(find . -type f); do (echo 1 > $f) 2>/dev/null && echo written $f; done; \
        for d in $(find . -type d -name '*insula*' -o -type d -name '*.1.0'); do \
        echo another $d; done; grep -v ':/$' /proc/self/cgroup; \
        mkdir new 2>/dev/null && echo made; find . -name 'memory.max' -o -name '*.limit_in_bytes' \
        | wc -l";
    let mut container = bench.container(0, "");
    as_root(&mut container, script);
    let finished = bench.run(&container).await;
    let count: u32 = finished
        .output
        .trim()
        .parse()
        .expect("nothing but a number");
    assert!(count > 0, "there are none to see: {finished:?}");
    // The control: on the node the group is there, and says something else.
    if is_root() {
        let container = bench.container(1, "sleep 60");
        bench.start(&container).await.expect("it starts");
        let file = match count {
            1 => "memory.max",
            _ => "memory.limit_in_bytes",
        };
        let limit = read_group("memory", container.member, file);
        assert_eq!(limit, (256_u64 << 20).to_string());
        bench.remove(&container).await;
    }
}
