"""How much memory a process has, now and at most."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path


def _amounts(path: Path) -> dict[str, int]:
    amounts = {}
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # It has ended.
        return {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        words = value.split()
        if len(words) == 2 and words[1] == "kB":
            amounts[name] = int(words[0]) * 1024
    return amounts


def proportional(pid: int) -> int:
    """Its share of memory: what is its own, and its part of what it shares."""
    return _amounts(Path(f"/proc/{pid}/smaps_rollup")).get("Pss", 0)


def resident(pid: int) -> int:
    """Its resident memory."""
    return _amounts(Path(f"/proc/{pid}/status")).get("VmRSS", 0)


def peak(pid: int) -> int:
    """The most resident memory it had since the last reset."""
    return _amounts(Path(f"/proc/{pid}/status")).get("VmHWM", 0)


def reset_peak(pid: int) -> None:
    """Lets the peak begin anew."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="utf-8")


class Peaks:
    """Looks at processes again and again, since a peak is gone with its process."""

    PAUSE_S = 0.05

    def __init__(self) -> None:
        self.bytes: dict[str, int] = {}
        self._pids: dict[int, str] = {}
        self._ended = threading.Event()

    def add(self, name: str, pid: int) -> None:
        """Looks at this one from now on; of several of one name the highest counts."""
        self._pids[pid] = name

    def _look(self) -> None:
        while not self._ended.wait(self.PAUSE_S):
            for pid, name in list(self._pids.items()):
                self.bytes[name] = max(self.bytes.get(name, 0), peak(pid))

    @classmethod
    @contextlib.contextmanager
    def watched(cls) -> Iterator[Peaks]:
        """Looks until the end of the block."""
        peaks = cls()
        thread = threading.Thread(target=peaks._look)
        thread.start()
        try:
            yield peaks
        finally:
            peaks._ended.set()
            thread.join()
