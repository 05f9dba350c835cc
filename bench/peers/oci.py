"""runc and crun: one bundle, hardened as a session is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from harness.context import Context
from harness.machine import control_groups
from harness.native import watch
from harness.packages import need
from harness.processes import LineServer
from peers.calls import ALLOWED

FIRST_ID = 3_700_000_000
RANGE = 65_536
# crun refuses v1 with v2 mounted beside it.
WITHOUT_UNIFIED = ["unshare", "-m", "sh", "-c", 'umount /sys/fs/cgroup/unified; exec "$0" "$@"']
_DEVICES = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, None)]
_PLACES = [
    "dev",
    "etc",
    "home/user",
    "opt",
    "proc",
    "root",
    "run",
    "sys",
    "tmp",
    "usr",
    "var",
    "work",
]
_LINKS = ["bin", "lib", "lib64", "sbin"]
FLAGS = (
    "user namespace of 65,536 ids, mount, pid, net, ipc, uts and cgroup namespaces; limits of cpu, "
    "memory, pids, devices; a list of allowed system calls; no capabilities, no new privileges; "
    "masked and read-only paths; read-only root with the host's /usr and /opt"
)


def runc(context: Context) -> LineServer:
    """`runc run` of the bundle, its removal included."""
    return _runtime(context, "runc", [])


def crun(context: Context) -> LineServer:
    """`crun run` of the same."""
    beside = control_groups() == "v1 with v2 beside"
    return _runtime(context, "crun", WITHOUT_UNIFIED if beside else [])


def state(name: str) -> Path:
    """Where a runtime keeps what it knows of its containers: in memory, as it does by default."""
    return Path("/run") / f"insula-bench-{name}"


def _runtime(context: Context, name: str, prefix: list[str]) -> LineServer:
    program = need(name, name)
    bundle = _bundle(context, name)
    command = [program, "--root", state(name), "run", "--bundle", bundle, "bench-{n}"]
    # The runtime gives its standard files to the container's user.
    return watch(context, name, command, prefix=prefix, standard_files="memory")


def _bundle(context: Context, name: str) -> Path:
    bundle = context.place(f"bundle-{name}")
    root = bundle / "rootfs"
    for place in _PLACES:
        (root / place).mkdir(parents=True, exist_ok=True)
    for link in _LINKS:
        if not (root / link).is_symlink():
            (root / link).symlink_to(f"usr/{link}")
    for file in ["hosts", "hostname", "ld.so.cache"]:
        (root / "etc" / file).write_bytes(Path("/etc", file).read_bytes())
    for directory in [root / "work", root / "home" / "user"]:
        os.chown(directory, FIRST_ID + 1000, FIRST_ID + 1000)
    (bundle / "config.json").write_text(json.dumps(_configuration(name)), encoding="utf-8")
    return bundle


def _configuration(name: str) -> dict[str, Any]:
    nothing: dict[str, list[str]] = {
        kind: [] for kind in ["bounding", "effective", "inheritable", "permitted", "ambient"]
    }
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 1000, "gid": 1000},
            "args": ["/bin/true"],
            "env": ["PATH=/usr/bin:/bin"],
            "cwd": "/work",
            "capabilities": nothing,
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1000, "soft": 1000}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "bench",
        "mounts": _mounts(),
        "linux": _linux(name),
    }


def _mounts() -> list[dict[str, Any]]:
    def of(kind: str, target: str, *options: str) -> dict[str, Any]:
        return {"destination": target, "type": kind, "source": kind, "options": list(options)}

    def bind(source: str) -> dict[str, Any]:
        options = ["bind", "ro", "nosuid", "nodev"]
        return {"destination": source, "type": "bind", "source": source, "options": options}

    return [
        of("proc", "/proc", "nosuid", "nodev", "noexec"),
        of("tmpfs", "/dev", "nosuid", "mode=755", "size=64k"),
        of(
            "devpts",
            "/dev/pts",
            "nosuid",
            "noexec",
            "newinstance",
            "ptmxmode=0666",
            "mode=0620",
            "gid=5",
        ),
        of("tmpfs", "/dev/shm", "nosuid", "nodev", "mode=1777", "size=64m"),
        of("tmpfs", "/tmp", "nosuid", "nodev", "mode=1777", "size=64m"),
        of("sysfs", "/sys", "nosuid", "nodev", "noexec", "ro"),
        bind("/usr"),
        bind("/opt"),
    ]


def _linux(name: str) -> dict[str, Any]:
    mapping = [{"containerID": 0, "hostID": FIRST_ID, "size": RANGE}]
    devices: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    for major, minor in _DEVICES:
        rule = {"allow": True, "type": "c", "major": major, "access": "rw"}
        devices.append(rule if minor is None else {**rule, "minor": minor})
    return {
        "namespaces": [
            {"type": kind} for kind in ["user", "mount", "pid", "network", "ipc", "uts", "cgroup"]
        ],
        "uidMappings": mapping,
        "gidMappings": mapping,
        "cgroupsPath": f"/insula-bench-{name}/container",
        "resources": {
            "devices": devices,
            "memory": {"limit": 256 << 20, "swap": 256 << 20},
            "cpu": {"quota": 100_000, "period": 100_000},
            "pids": {"limit": 64},
        },
        "seccomp": {
            "defaultAction": "SCMP_ACT_ERRNO",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": ALLOWED, "action": "SCMP_ACT_ALLOW"}],
        },
        "maskedPaths": [
            f"/proc/{path}"
            for path in [
                "acpi",
                "asound",
                "kcore",
                "keys",
                "key-users",
                "kmsg",
                "kpagecgroup",
                "kpagecount",
                "kpageflags",
                "scsi",
                "latency_stats",
                "sched_debug",
                "timer_list",
                "timer_stats",
            ]
        ]
        + [f"/sys/{path}" for path in ["block", "devices/virtual/block", "firmware"]],
        "readonlyPaths": [
            f"/proc/{path}" for path in ["bus", "fs", "irq", "pressure", "sys", "sysrq-trigger"]
        ],
    }
