"""Docker: a daemon with its defaults in namespaces of its own, and images made here."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import tarfile
from pathlib import Path

from harness.context import Context, say
from harness.files import GROUPS, remove_groups, remove_tree
from harness.packages import need
from harness.processes import (
    children,
    clean_environment,
    descendants,
    end,
    end_pids,
    eventually,
    run,
    start,
)

# Its bridge, its rules of the firewall and its mounts go with these namespaces. Standard output of
# `ip` and `mount` is nobody's business.
_APART = ["unshare", "--mount", "--net", "sh", "-c", 'ip link set lo up; exec "$0" "$@"']
_SYSTEM_LINKS = {"bin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64", "sbin": "usr/sbin"}
_SYSTEM_PLACES = ["dev", "etc", "opt", "proc", "sys", "tmp", "usr", "work"]


class Docker:
    """`with Docker(context) as docker:` has a warm daemon with two images.

    `busybox` holds one static program; `system` is empty directories, for the host's /usr to be
    mounted in, and so has the same programs as Insula's image `host`.
    """

    def __init__(self, context: Context) -> None:
        self.program = need("docker", "docker.io")
        self._daemon = need("dockerd", "docker.io")
        self._place = context.place("docker")
        self._socket = self._place / "docker.sock"
        self._log = context.place("logs") / "dockerd.log"
        self.environment = clean_environment(
            DOCKER_HOST=f"unix://{self._socket}", DOCKER_CONFIG=str(self._place / "client")
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._had_groups = any((group / "docker").is_dir() for group in GROUPS.iterdir())

    def __enter__(self) -> Docker:
        need("iptables", "iptables")
        apart: list[str | Path] = [*_APART, self._daemon]
        files: list[str | Path] = ["--data-root", self._place / "data"]
        files += ["--exec-root", self._place / "run", "--pidfile", self._place / "docker.pid"]
        command = [*apart, *files, "--host", f"unix://{self._socket}"]
        self._process = start(command, self._log)
        try:
            eventually("dockerd answers", self._answers)
            self._import("busybox", _busybox())
            self._import("system", _system())
            run([self.program, "run", "--rm", "busybox", "true"], self.environment)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if not self._process:
            return
        started = descendants(self._process.pid)
        with contextlib.suppress(RuntimeError):
            running = run([self.program, "ps", "-q"], self.environment).stdout.split()
            if running:
                run([self.program, "kill", *running], self.environment)
        end(self._process)
        # containerd and what watches containers end with it; what does not is ended.
        end_pids([pid for pid in started if children(pid) or Path(f"/proc/{pid}").exists()])
        try:
            remove_tree(self._place)
        except (RuntimeError, OSError) as error:
            say(f"docker's files stay: {error}")
        if not self._had_groups:
            remove_groups("docker")

    def _answers(self) -> bool:
        if self._process and self._process.poll() is not None:
            raise RuntimeError(f"dockerd ended: {self._log.read_text(errors='replace')[-2000:]}")
        try:
            run([self.program, "version"], self.environment)
        except RuntimeError:
            return False
        return True

    def _import(self, name: str, archive: bytes) -> None:
        path = self._place / f"{name}.tar"
        path.write_bytes(archive)
        run([self.program, "import", path, name], self.environment)

    def run_command(
        self, image: str, *words: str, flags: list[str] | None = None
    ) -> list[str | Path]:
        """`docker run --rm` of an image."""
        return [self.program, "run", "--rm", *(flags or []), image, *words]


def _busybox() -> bytes:
    program = Path(need("busybox", "busybox-static"))
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in ["bin", "dev", "etc", "proc", "sys", "tmp"]:
            tar.addfile(_directory(name))
        tar.add(os.path.realpath(program), "bin/busybox")
        for name in ["sh", "true", "sleep"]:
            tar.addfile(_link(f"bin/{name}", "busybox"))
    return archive.getvalue()


def _system() -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in _SYSTEM_PLACES:
            tar.addfile(_directory(name))
        for name, target in _SYSTEM_LINKS.items():
            tar.addfile(_link(name, target))
        tar.add("/etc/ld.so.cache", "etc/ld.so.cache")
    return archive.getvalue()


def _directory(name: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
    return entry


def _link(name: str, target: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    return entry
