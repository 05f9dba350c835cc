"""The peer of everything that moves bytes: `cat` through a Unix socket."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

CHUNK = 1 << 20
FLAGS = "cat FILE > socket, cat < socket"


def drain(descriptor: int) -> tuple[int, float, float]:
    """Reads all of it: bytes, when the first came, when the end came."""
    buffer = bytearray(CHUNK)
    total, first = 0, 0.0
    while got := os.readv(descriptor, [buffer]):
        if not total:
            first = time.monotonic()
        total += got
    return total, first, time.monotonic()


def to_pipe(source: Path) -> tuple[int, float]:
    """Through a socket into a pipe: bytes, and seconds from the first to the end."""
    read, write = os.pipe()
    try:
        with _Cats(source, write):
            os.close(write)
            write = -1
            total, first, last = drain(read)
        return total, last - first
    finally:
        os.close(read)
        if write >= 0:
            os.close(write)


def to_file(source: Path, target: Path) -> float:
    """Through a socket into a file: seconds from the start of both programs to their end."""
    began = time.monotonic()
    with target.open("wb") as file, _Cats(source, file.fileno()):
        pass
    return time.monotonic() - began


class _Cats:
    """Both programs; at the end of the block they are waited for."""

    def __init__(self, source: Path, target: int) -> None:
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with near, far:
            reader = ["/bin/cat", str(source)]
            self._programs = [
                subprocess.Popen(reader, stdin=subprocess.DEVNULL, stdout=near.fileno()),
                subprocess.Popen(["/bin/cat"], stdin=far.fileno(), stdout=target),
            ]

    def __enter__(self) -> _Cats:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for program in self._programs:
            if kind:
                program.kill()
            program.wait()
