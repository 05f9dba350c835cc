"""Moving a file's worth of bytes: output, upload, download."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from harness.context import Context, say
from harness.figures import Figure, Goal, Result, Side, ratio
from harness.files import remove_tree
from harness.memory import Peaks, reset_peak
from harness.site import Site
from peers import socket_cat

TITLE = "Moving bytes"
METHOD = (
    "A file in the page cache. Before each side of upload and download what was written is on the "
    "disk, and twice as much memory was used and freed again: a virtual machine's host may have "
    "taken back what was free, and gives it slowly. *run*: `insula run` of cat into a pipe, without loss, since "
    "the program waits for who follows. *logs -f*: the same of a detached session, followed "
    "before it begins; what the ring of 256 MiB drops for a slow follower is counted. Both "
    "from the first byte to the end of file. *upload* and *download*: the whole verb, start "
    "of the session included. The peer: "
    f"{socket_cat.FLAGS}, into a pipe or a file. Ratios are of throughputs. Peaks are the "
    "most that one process had resident at once, 50 ms apart; ten rounds unless --rounds says "
    "otherwise."
)
GIGABYTE = 1_000_000_000
MIB = 2**20
FLAGS = ["--no-env", "--memory", "512MB"]
# What a session writes stays in the page cache as far as its memory goes.
CACHED = ["--memory", "1500MB"]


class Bench:
    """A site, a file, and who watches the memory."""

    def __init__(self, context: Context, site: Site, peaks: Peaks) -> None:
        self.site, self.peaks = site, peaks
        self.size = context.amount(GIGABYTE, 100_000_000)
        self.place = context.place("bytes")
        self.data = self.place / "data"
        self.gate = self.place / "gate"
        for directory in [self.data, self.gate]:
            directory.mkdir(exist_ok=True)
        self.source = self.data / "blob"
        _fill(self.source, self.size)
        self.act = ""
        reset_peak(site.pid)
        for launcher in site.launchers():
            peaks.add("launcher", launcher)

    def client(self, *words: str | Path, stdout: int) -> subprocess.Popen[bytes]:
        """Starts a verb whose memory is watched."""
        command = [str(word) for word in self.site.command(*words)]
        process = subprocess.Popen(
            command,
            env=self.site.environment,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            stdout=stdout,
        )
        self.peaks.add(f"client: {self.act}", process.pid)
        return process

    def watch_guests(self) -> None:
        """Of the sessions that run now."""
        for guest in self.site.guests():
            self.peaks.add(f"guest: {self.act}", guest)

    @contextlib.contextmanager
    def doing(self, act: str) -> Iterator[None]:
        """The daemon's peak is counted for each act."""
        self.act = act
        reset_peak(self.site.pid)
        self.peaks.add(f"daemon: {act}", self.site.pid)
        yield
        time.sleep(2 * Peaks.PAUSE_S)


def measure(context: Context) -> Result:
    acts = {"run": _run, "logs -f": _logs, "upload": _upload, "download": _download}
    ours: dict[str, list[float]] = {act: [] for act in acts}
    peer: dict[str, list[float]] = {act: [] for act in acts}
    lost: dict[str, int] = {act: 0 for act in acts}
    with contextlib.ExitStack() as stack:
        stack.callback(remove_tree, context.place("bytes"))
        site = stack.enter_context(Site(context, "bytes"))
        peaks = stack.enter_context(Peaks.watched())
        bench = Bench(context, site, peaks)
        for number in range(context.rounds(10, 1)):
            say(f"bytes: round {number + 1}")
            for act, function in acts.items():
                with bench.doing(act):
                    got, seconds = function(bench)
                lost[act] = max(lost[act], bench.size - got)
                ours[act].append(got / seconds / 1e6)
                peer[act].append(bench.size / _peer(bench, act) / 1e6)
        size = bench.size
    return Result("bytes", TITLE, METHOD, _figures(ours, peer, size), _notes(lost, peaks))


def _fill(path: Path, size: int) -> None:
    """Bytes that are not all the same, read once so that they are in memory."""
    block = bytes(range(256)) * 4096
    with path.open("wb") as file:
        while file.tell() < size:
            file.write(block[: size - file.tell()])
    path.chmod(0o644)


def _finish(process: subprocess.Popen[bytes]) -> None:
    """Waits, and takes a failure for one."""
    said = process.stderr.read() if process.stderr else b""
    if process.wait() != 0:
        raise RuntimeError(
            f"{process.args!r}: {process.returncode}: {said.decode(errors='replace')}"
        )
    for pipe in [process.stdout, process.stderr]:
        if pipe:
            pipe.close()


def _watch_soon(bench: Bench) -> threading.Timer:
    timer = threading.Timer(0.2, bench.watch_guests)
    timer.start()
    return timer


def _mount(bench: Bench) -> list[str]:
    return ["--mount", f"{bench.data}:/data:ro"]


def _run(bench: Bench) -> tuple[int, float]:
    command = ["run", *FLAGS, *_mount(bench), "--name", "run", "--", "cat", "/data/blob"]
    process = bench.client(*command, stdout=subprocess.PIPE)
    timer = _watch_soon(bench)
    assert process.stdout
    got, first, last = socket_cat.drain(process.stdout.fileno())
    timer.join()
    _finish(process)
    bench.site.call("rm", "run")
    return got, last - first


def _logs(bench: Bench) -> tuple[int, float]:
    wait = "while [ ! -e /gate/open ]; do sleep 0.02; done; exec cat /data/blob"
    gate = ["--mount", f"{bench.gate}:/gate:ro"]
    bench.site.call(
        "run", "--detach", *FLAGS, *_mount(bench), *gate, "--name", "logs", "--", "sh", "-c", wait
    )
    process = bench.client("logs", "-f", "logs", stdout=subprocess.PIPE)
    time.sleep(0.5)
    bench.watch_guests()
    opened = bench.gate / "open"
    opened.touch()
    try:
        assert process.stdout
        got, first, last = socket_cat.drain(process.stdout.fileno())
        _finish(process)
    finally:
        opened.unlink()
    bench.site.call("rm", "logs")
    return got, last - first


def _settle(bench: Bench) -> None:
    """Nothing waits to be written, and memory is at hand for as much as an upload takes."""
    with tempfile.TemporaryFile(dir=bench.place) as file:
        block = bytes(MIB)
        for _ in range(2 * bench.size // MIB + 1):
            file.write(block)
        os.sync()


def _upload(bench: Bench) -> tuple[int, float]:
    _settle(bench)
    began = time.monotonic()
    words = ["run", *FLAGS, "--no-download", "--upload", str(bench.source), "--name", "upload"]
    process = bench.client(*words, "--", "true", stdout=subprocess.DEVNULL)
    _finish(process)
    seconds = time.monotonic() - began
    bench.site.call("rm", "upload")
    return bench.source.stat().st_size, seconds


def _download(bench: Bench) -> tuple[int, float]:
    make = ["run", "--no-env", "--no-download", *CACHED, *_mount(bench), "--name", "files"]
    bench.site.call(*make, "--", "cp", "/data/blob", "/work/blob")
    _settle(bench)
    target = bench.place / "target"
    began = time.monotonic()
    process = bench.client("download", "files", "--to", target, stdout=subprocess.DEVNULL)
    _finish(process)
    seconds = time.monotonic() - began
    got = (target / "blob").stat().st_size
    remove_tree(target)
    bench.site.call("rm", "files")
    return got, seconds


def _peer(bench: Bench, act: str) -> float:
    if act in ("run", "logs -f"):
        _, seconds = socket_cat.to_pipe(bench.source)
        return seconds
    target = bench.place / "copy"
    _settle(bench)
    seconds = socket_cat.to_file(bench.source, target)
    target.unlink()
    return seconds


def _figures(
    ours: dict[str, list[float]], peer: dict[str, list[float]], size: int
) -> list[Figure]:
    commands = {
        "run": "insula run --mount DATA:/data:ro -- cat /data/blob, into a pipe",
        "logs -f": "insula logs -f of a detached session that runs cat, into a pipe",
        "upload": "insula run --no-download --upload FILE -- true",
        "download": "insula download SESSION --to DIRECTORY",
    }
    figures = []
    for act, command in commands.items():
        side = Side(f"Insula, {act}", f"{command}; {size / 1e6:.0f} MB", "MB/s", ours[act])
        other = Side(f"cat, beside {act}", socket_cat.FLAGS, "MB/s", peer[act])
        figures.append(ratio(f"{act}: throughput, Insula / cat", side, other, Goal(">=", 0.5)))
    return figures


def _notes(lost: dict[str, int], peaks: Peaks) -> list[str]:
    notes = [f"{act}: {count} bytes did not come" for act, count in lost.items() if count]
    told = [
        f"{name} {amount / MIB:.1f} MiB" for name, amount in sorted(peaks.bytes.items()) if amount
    ]
    return [*notes, f"peaks of resident memory: {', '.join(told)}"]
