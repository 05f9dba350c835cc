"""Installs what is missing, by the ordinary clients: Debian's and PyPI's."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from harness.context import Context, say
from harness.processes import PATH, clean_environment, run

# /usr/bin/python3 and not whichever comes first: a virtual environment made with it works for
# other users too.
PYTHON = "/usr/bin/python3"


def find(program: str) -> str | None:
    """Where a program is that anybody can run."""
    return shutil.which(program, path=PATH)


def need(program: str, *packages: str) -> str:
    """The path of a program, from these packages if it is not there."""
    found = find(program)
    if not found:
        debian(*packages)
        found = find(program)
    if not found:
        raise RuntimeError(f"{program} is not in {', '.join(packages)}")
    return found


def debian(*packages: str) -> None:
    """Installs packages without starting what they bring."""
    say(f"installing {', '.join(packages)}")
    environment = clean_environment(DEBIAN_FRONTEND="noninteractive", RUNLEVEL="1")
    run(["apt-get", "update", "-q"], environment, limit_s=600)
    install = ["apt-get", "install", "-q", "-y", "--no-install-recommends", *packages]
    run(install, environment, limit_s=1200)


def virtual_environment(context: Context, name: str, *requirements: str) -> Path:
    """A virtual environment with these packages; one that is there already is used again."""
    path = context.place("environments") / name
    done = path / "installed"
    if done.exists() and done.read_text(encoding="utf-8").split() == list(requirements):
        return path
    try:
        run([PYTHON, "-m", "venv", "--clear", path])
    except RuntimeError:
        debian("python3-venv")
        run([PYTHON, "-m", "venv", "--clear", path])
    say(f"installing {', '.join(requirements)}")
    # The user's own settings of pip (an index, a proxy) are kept.
    environment = {**os.environ, "PATH": PATH}
    pip = [str(path / "bin" / "pip"), "install", "-q", "--disable-pip-version-check", *requirements]
    run(pip, environment, limit_s=900)
    done.write_text("\n".join(requirements), encoding="utf-8")
    return path
