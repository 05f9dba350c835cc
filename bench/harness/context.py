"""What a measure is given: where to work, how often to repeat, what to measure."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent
REPOSITORY = BENCH.parent
EXECUTABLES = REPOSITORY / "target" / "release"
# Others may be building: how long a missing executable is waited for.
PATIENCE_S = 180


class Unavailable(Exception):
    """Something that a measure needs is not here, and cannot be had."""


@dataclass(frozen=True)
class Context:
    """Shared by all measures of a run."""

    work: Path
    quick: bool
    asked_rounds: int | None
    executables: Path

    def rounds(self, usual: int, quick: int = 2) -> int:
        """How often something is repeated: as asked, or fewer times for a smoke run."""
        if self.asked_rounds is not None:
            return self.asked_rounds
        return quick if self.quick else usual

    def amount(self, usual: int, quick: int) -> int:
        """How much of something there is."""
        return quick if self.quick else usual

    def executable(self, name: str) -> Path:
        """One of ours, which may be missing for a moment while it is built anew."""
        path = self.executables / name
        deadline = time.monotonic() + PATIENCE_S
        while not os.access(path, os.X_OK):
            if time.monotonic() > deadline:
                raise Unavailable(f"{name} is not built: cargo build --release --workspace --bins")
            time.sleep(1)
        return path

    def place(self, name: str) -> Path:
        """A directory of this name to work in, which others may look through."""
        path = self.work / name
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o711)
        return path


def say(text: str) -> None:
    """Progress, for who waits."""
    print(text, file=sys.stderr, flush=True)
