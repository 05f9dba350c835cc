"""What attacks are written with: system calls as they are, and who tries what."""
import ctypes
import errno
import json
import os
import signal
import sys
import time

LIBC = ctypes.CDLL(None, use_errno=True)
# Longest that one attack may take; one that hangs is refused by that. More on a slow machine.
SECONDS = 60
ATTACKS = []


class Refused(Exception):
    """It did not get through, for a reason that is no errno."""


class Impossible(Exception):
    """It cannot be tried here, by nobody."""


class Only(Exception):
    """It would change the machine, and this is none to be thrown away."""


def attack(group):
    """A row of the table: its name is the function's, its words are the first of its text."""

    def keep(function):
        ATTACKS.append((group, function.__name__, function.__doc__.strip(), function))
        return function

    return keep


def call(number, *arguments):
    """A system call; an error is raised."""
    ctypes.set_errno(0)
    # As wide as registers are: what is not would bring what lay there before.
    wide = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result = LIBC.syscall(ctypes.c_long(number), *wide)
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def mount(source, target, kind, flags=0, options=None):
    call(165, source, target, kind, ctypes.c_ulong(flags), options)


def refuse_unless(condition, reason):
    if not condition:
        raise Refused(reason)


def text(path, mode="r"):
    with open(path, mode) as file:
        return file.read()


def verdict(function, situation):
    """What became of one attack, as two words and a reason."""
    try:
        return "through", function(situation) or "done"
    except Refused as error:
        return "refused", str(error)
    except (Impossible, Only) as error:
        return "impossible", str(error)
    except OSError as error:
        name = errno.errorcode.get(error.errno, str(error))
        if situation.control and error.errno in (errno.ENOSYS, errno.ENODEV, errno.ENXIO):
            return "impossible", f"this kernel has none of it ({name})"
        return "refused", name
    except Exception as error:  # A mistake of ours has to be seen.
        return "mistake", repr(error)


def apart(function, situation):
    """Tries one attack in a process of its own, which may be killed for it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        # Whatever an attack leaves running ends with it.
        os.setpgid(0, 0)
        signal.alarm(SECONDS * situation.slowness)
        os.write(writing, json.dumps(verdict(function, situation)).encode())
        os._exit(0)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    # Until all that it started is gone: that holds the pipe, and the next one has the same limits.
    deadline = time.monotonic() + SECONDS * situation.slowness
    try:
        while time.monotonic() < deadline:
            os.killpg(child, signal.SIGKILL)
            time.sleep(0.01)
    except OSError:
        pass
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    if told:
        return json.loads(told)
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    return ["refused", f"it is ended by {signal.Signals(number).name}" if number else "no word"]


class Situation:
    """Where an attack is tried, and what there is on the node to be reached."""

    def __init__(self, told):
        self.control = told["control"]
        self.throwaway = told["throwaway"]
        self.slowness = told["slowness"]
        self.secret = told["secret"]
        self.places = told["places"]
        self.decoy = told["decoy"]
        # The one who holds this container together.
        self.guest = os.getppid() if self.control else 1

    def found(self, content):
        """The secret was read."""
        if isinstance(content, bytes):
            content = content.decode(errors="replace")
        refuse_unless(self.secret in content, "it finds something else")
        return "reads the secret"

    @property
    def may_change_the_machine(self):
        return self.control and self.throwaway

    def changes_the_machine(self):
        if self.control and not self.throwaway:
            raise Only("it would change this machine")

    def on_node(self, path):
        """A path of the node, by every way to its root that there might be."""
        roots = ["/proc/1/root", "/proc/self/root", f"/proc/{self.decoy['pid']}/root"]
        last = FileNotFoundError(errno.ENOENT, path)
        for root in [""] + roots:
            try:
                os.lstat(root + path)
                return root + path
            except OSError as error:
                last = error
        raise last


def main():
    """Tries everything and tells each as a line of JSON."""
    situation = Situation(json.loads(sys.argv[1]))
    if situation.control:
        # So that what holds a plain container together is a process beside the attacks, with the
        # secret in its memory, as a guest has its configuration.
        if (child := os.fork()) != 0:
            _, status = os.waitpid(child, 0)
            sys.exit(os.waitstatus_to_exitcode(status) & 1)
        situation.guest = os.getppid()
    wanted = sys.argv[2].split(",") if len(sys.argv) > 2 else None
    for group, name, words, function in ATTACKS:
        if wanted and name not in wanted:
            continue
        result, how = apart(function, situation)
        row = {"group": group, "name": name, "words": words, "result": result, "how": how}
        print(json.dumps(row), flush=True)

