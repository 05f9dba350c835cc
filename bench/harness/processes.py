"""Processes of a benchmark: started in the open, ended by their own id, never by a name."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

# What measured programs find their helpers by: no version managers, no wrappers.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
END_LIMIT_S = 20


def clean_environment(**further: str) -> dict[str, str]:
    """The same few variables for all sides."""
    return {"PATH": PATH, "HOME": str(Path.home()), "LANG": "C.UTF-8", **further}


def run(
    command: Sequence[str | Path],
    environment: Mapping[str, str] | None = None,
    limit_s: float = 600,
    **options: Any,
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end; a failure shows what it said."""
    done = subprocess.run(
        [str(word) for word in command],
        env=dict(environment or clean_environment()),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
        **options,
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise RuntimeError(f"{' '.join(map(str, command))}: exit code {done.returncode}: {said}")
    return done


def start(
    command: Sequence[str | Path],
    log: Path,
    environment: Mapping[str, str] | None = None,
    **options: Any,
) -> subprocess.Popen[bytes]:
    """Starts a daemon in a session of its own, so that an interrupt reaches us and not it."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(word) for word in command],
            env=dict(environment or clean_environment()),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            **options,
        )


def end(process: subprocess.Popen[Any]) -> None:
    """Asks it to end, and makes it."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def children(pid: int) -> list[int]:
    """Processes whose parent this one is."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and parent_of(int(entry.name)) == pid:
            found.append(int(entry.name))
    return found


def descendants(pid: int) -> list[int]:
    """Everything that this one started and what that started, which has not ended."""
    return [each for child in children(pid) for each in [child, *descendants(child)]]


def parent_of(pid: int) -> int | None:
    """Its parent, or None of one that has ended."""
    fields = stat_of(pid)
    return int(fields[1]) if fields else None


def stat_of(pid: int) -> list[str] | None:
    """What /proc tells of it behind its name: the state first."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def end_pids(pids: Sequence[int]) -> None:
    """Kills what is left of processes that we started through others."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def eventually(what: str, condition: Callable[[], Any], limit_s: float = 60) -> Any:
    """Waits until `condition` answers something."""
    deadline = time.monotonic() + limit_s
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not within {limit_s:g} s")
        time.sleep(0.05)
    return answer


class LineServer:
    """A program that does its work once for each line, and answers with one of JSON."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        self.command = [str(word) for word in command]
        self._log = log
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                self.command,
                env=dict(environment or clean_environment()),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
                text=True,
                cwd=directory,
            )

    def __enter__(self) -> LineServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """It ends with its input, and so cleans up after itself."""
        if self.process.stdin and not self.process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        try:
            self.process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            end(self.process)
        if self.process.stdout:
            self.process.stdout.close()

    def ask(self, count: int = 1) -> list[dict[str, Any]]:
        """Does it `count` times back to back."""
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write("\n" * count)
            self.process.stdin.flush()
        except BrokenPipeError as error:
            raise RuntimeError(self._last_words()) from error
        answers = []
        for _ in range(count):
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError(self._last_words())
            answer = json.loads(line)
            if answer.get("status", 0) != 0:
                raise RuntimeError(f"{self._last_words()} (status {answer['status']})")
            answers.append(answer)
        return answers

    def _last_words(self) -> str:
        said = self._log.read_text(encoding="utf-8", errors="replace").strip()[-2000:]
        return f"{' '.join(self.command)} failed: {said}"
