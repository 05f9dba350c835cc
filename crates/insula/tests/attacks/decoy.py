"""Somebody on the node whom attacks are after. Its arguments are a secret and a file with it.

It tells where it can be found as a line of JSON, and removes what it made when its input ends.
"""
import ctypes
import json
import os
import socket
import sys
import threading

LIBC = ctypes.CDLL(None, use_errno=True)
SECRET, PATH = sys.argv[1], sys.argv[2]
CREATE = 0o1000
USER_KEYRING = -4
REMOVE = 0


def disk():
    """Which device the file lies on, its file system's kind, and the device's number."""
    best = ("", "none", "")
    for line in open("/proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        root, place = before.split()[3:5]
        kind, device = after.split()[:2]
        beneath = PATH.startswith(place.rstrip("/") + "/")
        if beneath and root == "/" and len(place) >= len(best[0]):
            best = (place, device, kind)
    number = os.stat(PATH).st_dev
    device = best[1] if best[0] == "/" else "none"
    return device, best[2], (os.major(number), os.minor(number))


def reads(device):
    """Whether root of the node reads it."""
    try:
        with open(device, "rb", buffering=0) as file:
            return len(file.read(512)) == 512
    except OSError:
        return False


def answer(server):
    while True:
        one, _ = server.accept()
        one.sendall(SECRET.encode())
        one.close()


def main():
    number = os.getpid()
    memory = LIBC.shmget(number, 4096, CREATE | 0o600)
    LIBC.shmat.restype = ctypes.c_void_p
    ctypes.memmove(LIBC.shmat(memory, None, 0), SECRET.encode(), len(SECRET))
    messages = LIBC.msgget(number, CREATE | 0o600)
    body = SECRET.encode()
    LIBC.msgsnd(messages, ctypes.c_long(1).value.to_bytes(8, "little") + body, len(body), 0)
    queue = f"decoy-{number}"
    LIBC.syscall(240, queue.encode(), os.O_CREAT | os.O_RDWR, 0o600, None)
    key = LIBC.syscall(248, b"user", queue.encode(), body, len(body), USER_KEYRING)
    tcp = socket.create_server(("127.0.0.1", 0))
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind("\0" + queue)
    abstract.listen()
    for server in (tcp, abstract):
        threading.Thread(target=answer, args=(server,), daemon=True).start()
    device, kind, device_number = disk()
    told = {
        "pid": number,
        "memory": number,
        "queue": queue,
        "key": queue,
        "port": tcp.getsockname()[1],
        "abstract": queue,
        "disk": device,
        "disk_kind": kind,
        "reads_disk": reads(device),
        "disk_number": device_number,
    }
    print(json.dumps(told), flush=True)
    sys.stdin.read()
    LIBC.shmctl(memory, REMOVE, None)
    LIBC.msgctl(messages, REMOVE, None)
    LIBC.syscall(241, queue.encode())
    unlink = 9
    LIBC.syscall(250, unlink, key, USER_KEYRING, 0, 0)


main()
