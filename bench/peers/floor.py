"""The floor: the same sandbox by direct system calls, without anything around it."""

from __future__ import annotations

from harness.context import Context
from harness.files import remove_groups
from harness.native import floor
from harness.processes import LineServer


class Floor(LineServer):
    """A server of starts; its groups are removed also where it died."""

    def __init__(self, context: Context, name: str = "floor") -> None:
        directory = context.place(name)
        log = context.place("logs") / f"{name}.log"
        super().__init__([floor(context), directory, "/bin/true"], log)

    def close(self) -> None:
        super().close()
        remove_groups(f"insula-floor-{self.process.pid}")
