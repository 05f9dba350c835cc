"""The machine on which is measured, and how busy it is."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path


def load() -> str:
    """The load averages of 1, 5 and 15 minutes."""
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def _first(path: str, key: str) -> str:
    for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return "unknown"


def _system() -> str:
    for line in Path("/etc/os-release").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition("=")
        if name == "PRETTY_NAME":
            return value.strip('"')
    return "unknown"


def _commit(directory: Path) -> str:
    command = ["git", "-C", str(directory), "describe", "--always", "--dirty", "--abbrev=12"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "unknown"


def control_groups() -> str:
    """Which version of control groups the machine has."""
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        return "v2"
    return "v1 with v2 beside" if Path("/sys/fs/cgroup/unified").exists() else "v1"


def file_system(path: Path) -> str:
    """The kind of the file system that `path` lies in; ext4 is slower with a journal."""
    number = os.stat(path).st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        fields, _, rest = line.partition(" - ")
        if fields.split()[2] == device:
            return rest.split()[0] + _journal(device)
    return "a file system of an unknown kind"


def _journal(device: str) -> str:
    """Says so if the device is known to the kernel's ext4, and to none of its journals."""
    name = Path(f"/sys/dev/block/{device}").resolve().name
    has_one = any(Path("/proc/fs/jbd2").glob(f"{name}-*"))
    return " without a journal" if Path("/proc/fs/ext4", name).exists() and not has_one else ""


def describe(repository: Path, work: Path) -> dict[str, str]:
    """What a reader has to know of where the figures come from."""
    memory_kib = int(_first("/proc/meminfo", "MemTotal").split()[0])
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _first("/proc/cpuinfo", "model name"),
        "cpus": str(os.cpu_count()),
        "memory": f"{memory_kib / 2**20:.1f} GiB",
        "system": _system(),
        "kernel": platform.release(),
        "control groups": control_groups(),
        "file system": file_system(work),
        "commit": _commit(repository),
    }
