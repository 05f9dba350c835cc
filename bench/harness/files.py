"""Removing files without ever crossing a mount, and removing groups."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")


def mounts_below(path: Path) -> list[str]:
    """Mount points at or below `path` that this process sees."""
    own = os.path.realpath(path)
    points = []
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        point = line.split()[4].encode().decode("unicode_escape")
        if point == own or point.startswith(own + "/"):
            points.append(point)
    return points


def remove_tree(path: Path) -> None:
    """Removes a directory with all that is in it, unless something is mounted there."""
    if not path.exists():
        return
    if mounted := mounts_below(path):
        raise RuntimeError(f"{path} is left as it is: mounted there: {', '.join(mounted)}")
    device = path.stat().st_dev
    for directory, names, _ in os.walk(path):
        for name in names:
            facts = os.lstat(os.path.join(directory, name))
            if facts.st_dev != device:
                raise RuntimeError(f"{directory}/{name} is on another file system: left as it is")
    shutil.rmtree(path)


def remove_groups(name: str) -> None:
    """Removes the empty groups of this name in every hierarchy, with those below."""
    for hierarchy in [GROUPS, *GROUPS.iterdir()]:
        top = hierarchy / name
        if not top.is_dir():
            continue
        for directory, _, _ in os.walk(top, topdown=False):
            _remove_group(Path(directory))


def _remove_group(path: Path) -> None:
    for _ in range(50):
        try:
            path.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.02)
