"""The floor: the same sandbox by direct system calls, without anything around it."""

from __future__ import annotations

import contextlib
from pathlib import Path

from harness.context import Context
from harness.files import remove_groups, remove_tree
from harness.native import floor
from harness.processes import LineServer


class Floor(LineServer):
    """A server of starts; its groups are removed also where it died. Its files in `directory` go
    when it ends, or `later`: see Site."""

    def __init__(
        self, context: Context, directory: Path, later: contextlib.ExitStack | None = None
    ) -> None:
        self._directory = directory
        self._later = later
        log = context.place("logs") / f"{directory.name}.log"
        super().__init__([floor(context), directory, "/bin/true"], log)

    def close(self) -> None:
        super().close()
        remove_groups(f"insula-floor-{self.process.pid}")
        if self._later:
            self._later.callback(remove_tree, self._directory)
        else:
            remove_tree(self._directory)
