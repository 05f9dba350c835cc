"""A site of Insula with a home of its own, taken down whatever happens."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path
from typing import Any

from harness.context import Context, say
from harness.files import remove_tree
from harness.processes import children, clean_environment, run

# A session that is just starting may outlive the first.
_TRIES = 3


class Site:
    """`with Site(context, "run") as site:` has a daemon that answers. Its home is removed `later`,
    if that is said: ext4 without a journal makes files slowly for minutes after many were removed,
    which would burden whoever is measured next. `configuration` is the text of its config.toml."""

    def __init__(
        self,
        context: Context,
        name: str,
        later: contextlib.ExitStack | None = None,
        configuration: str = "",
    ) -> None:
        self.insula = context.executable("insula")
        self.home = context.place(f"home-{name}")
        if configuration:
            (self.home / "config.toml").write_text(configuration, encoding="utf-8")
        self.later = later
        self.environment = clean_environment(INSULA_HOME=str(self.home))
        self.pid = 0

    def __enter__(self) -> Site:
        try:
            self.pid = int(json.loads(self.call("up", "--json"))["pid"])
            # The first session prepares the image; no later one does.
            self.call("run", "--no-env", "--", "true")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for _attempt in range(_TRIES):
            try:
                self.call("down", "--stop")
                if self.later:
                    self.later.callback(remove_tree, self.home)
                else:
                    remove_tree(self.home)
                return
            except (RuntimeError, subprocess.TimeoutExpired, OSError) as error:
                say(f"the site at {self.home} is not gone: {error}")

    def command(self, *words: str | Path) -> list[str | Path]:
        """The executable with these words."""
        return [self.insula, *words]

    def call(self, *words: str | Path, limit_s: float = 300) -> str:
        """What a verb prints."""
        return run(self.command(*words), self.environment, limit_s).stdout

    def show(self, name: str) -> dict[str, Any]:
        """The record of a session."""
        return dict(json.loads(self.call("show", name, "--json")))

    def sessions(self, *flags: str) -> list[dict[str, Any]]:
        """The records of sessions."""
        return list(json.loads(self.call("ls", "--json", *flags))["sessions"])

    def launchers(self) -> list[int]:
        """What the daemon started: the process that starts containers."""
        return children(self.pid)

    def guests(self) -> list[int]:
        """The first process of each container."""
        return [one for one in self._of_launchers() if _is_guest(one)]

    def ahead(self) -> list[int]:
        """What waits in containers that were made ahead, and are nobody's."""
        return [one for one in self._of_launchers() if not _is_guest(one)]

    def _of_launchers(self) -> list[int]:
        return [one for launcher in self.launchers() for one in children(launcher)]


def _is_guest(pid: int) -> bool:
    """By the name that it is executed with; one that is gone is none."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"insula-guest")
    except OSError:
        return False
