#!/usr/bin/python3
"""A launcher without walls that speaks the protocol. The program of an order is the name of what it does with it."""
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys

PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None)
arguments = dict(zip(sys.argv[2::2], sys.argv[3::2]))
assert sys.argv[1] == "--serve" and int(arguments["--parent"]) == os.getppid(), sys.argv
libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
channel = socket.socket(fileno=os.dup(0))
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen()


def say(message, descriptors=()):
    socket.send_fds(channel, [json.dumps(message).encode()], list(descriptors))


def spawn(order, descriptors, program):
    given = dict(zip(order["descriptors"], descriptors))
    child = subprocess.Popen(
        program, stdin=subprocess.DEVNULL, stdout=given.get("stdout", subprocess.DEVNULL), stderr=subprocess.DEVNULL,
        preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL))
    pidfd = os.pidfd_open(child.pid)
    say({"type": "spawned", "id": order["id"], "pid": child.pid}, [pidfd, listener.fileno()])
    os.close(pidfd)
    return child


def end(order, child):
    status = child.wait()
    how = {"kind": "exited", "value": status} if status >= 0 else {"kind": "signaled", "value": -status}
    say({"type": "ended", "id": order["id"], "end": how, "rusage": {"cpu_us": 7, "memory_peak_bytes": 9}})


say({"type": "ready", "version": 3, "profile": arguments["--profile"],
     "layers": [{"name": "backend", "is_active": False, "detail": arguments["--backend"]},
                {"name": "environment", "is_active": True, "detail": repr(sorted(os.environ))}]})
late = []
while True:
    packet, descriptors, _, _ = socket.recv_fds(channel, 256 * 1024, 64)
    if not packet:
        break
    order = json.loads(packet)
    what, words = order["command"][0], order["command"][1:]
    if what == "/runs":
        spawn(order, descriptors, ["/bin/sleep", "1000"])
    elif what == "/ends":
        end(order, spawn(order, descriptors, ["/bin/sh", "-c", words[0]]))
    elif what == "/fails":
        say({"type": "failed", "id": order["id"], "stage": "mounts", "message": "there is no " + words[0]})
    elif what == "/is-late":
        late.append(order)
    elif what == "/wakes":
        for each in late:
            print(spawn(each, [], ["/bin/sleep", "1000"]).pid, file=open(words[0], "w"))
        spawn(order, descriptors, ["/bin/sleep", "1000"])
    elif what == "/babbles":
        channel.send(b"{")
    elif what == "/dies":
        print("in the middle", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    for descriptor in descriptors:
        os.close(descriptor)
