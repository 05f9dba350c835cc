"""Compiles the small C programs of this directory."""

from __future__ import annotations

import functools
from pathlib import Path

from harness.context import BENCH, Context
from harness.packages import need
from harness.processes import LineServer, clean_environment, run

_WARNINGS = ["-O2", "-Wall", "-Wextra"]


def _compile(context: Context, source: str, output: str, flags: list[str]) -> Path:
    need("cc", "gcc", "libc6-dev")
    path = context.place("native") / output
    run(["cc", *_WARNINGS, *flags, "-o", path, BENCH / source, "-ldl"])
    return path


@functools.cache
def floor(context: Context) -> Path:
    """The floor, static where the C library can be."""
    try:
        return _compile(context, "floor.c", "floor", ["-static"])
    except RuntimeError:
        return _compile(context, "floor.c", "floor", [])


@functools.cache
def stopwatch(context: Context) -> Path:
    """What measures a program from spawn to reap."""
    return _compile(context, "stopwatch.c", "stopwatch", [])


@functools.cache
def cpus52(context: Context) -> Path:
    """The library that shows 52 CPUs."""
    return _compile(context, "cpus52.c", "cpus52.so", ["-shared", "-fPIC"])


def watch(
    context: Context,
    name: str,
    command: list[str | Path],
    environment: dict[str, str] | None = None,
    prefix: list[str] | None = None,
    standard_files: str = "null",
) -> LineServer:
    """A stopwatch of `command`. `prefix` stands before the stopwatch: it is not measured.

    Its standard input and output are /dev/null, or with `memory` files of its own.
    """
    log = context.place("logs") / f"{name}.log"
    words = [*(prefix or []), stopwatch(context), standard_files, *command]
    return LineServer(words, log, environment or clean_environment())
