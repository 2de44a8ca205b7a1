"""The worker of the storm: counts, and misbehaves on the first attempt at a task that asks for it.

A task's input: {"action": "count" | "read" | "echo", "first": what its first attempt does instead}
    hang     stops reading and answering         spin       the same, at full speed
    exit     exits with status 3                 garbage    sends bytes that are no frame
    late     answers, and exits at once
"""
import collections, json, os, socket, struct, sys, threading

kernel = socket.socket(fileno=3)
backlog = collections.deque()


def send(**frame):
    payload = json.dumps(frame).encode()
    kernel.sendall(struct.pack(">I", len(payload)) + payload)


def receive():
    """The next frame that is not a ping."""
    while True:
        header = kernel.recv(4, socket.MSG_WAITALL)
        if len(header) < 4:
            sys.exit(0)
        frame = json.loads(kernel.recv(struct.unpack(">I", header)[0], socket.MSG_WAITALL))
        if frame["type"] != "ping":
            return frame
        send(type="pong", n=frame["n"])


def call(task, step, syscall, **args):
    send(type="call", id=1, task=task, step=step, syscall=syscall, args=args)
    while (frame := receive())["type"] != "reply":
        backlog.append(frame)
    return frame


def count(task):
    """Adds one, and loses nothing to an attempt of another life that is still being settled."""
    for turn in range(100):
        seen = call(task, f"get-{turn}", "kv.get", key="count")["ok"]
        value = (seen["value"] or 0) + 1
        reply = call(task, f"put-{turn}", "kv.put", key="count", value=value, if_version=seen["version"])
        if "ok" in reply:
            return value
        if reply["error"]["code"] != "AOS-1610":
            raise RuntimeError(reply["error"])
    raise RuntimeError("the counter changed 100 times in a row")


def misbehave(how):
    if how == "exit":
        os._exit(3)
    if how == "garbage":
        kernel.sendall(b"GET / HTTP/1.1\r\nHost: kernel\r\n\r\n")
    while how == "spin":
        pass
    threading.Event().wait()


def work(frame):
    task, order = frame["task"], frame["input"]
    first = order.get("first") if frame["attempt"] == 1 else None
    if first not in (None, "late"):
        misbehave(first)
    if order["action"] == "count":
        output = count(task)
    elif order["action"] == "read":
        output = call(task, "read", "kv.get", key="count")["ok"]["value"] or 0
    else:
        output = order
    send(type="done", task=task, output=output)
    if first == "late":
        os._exit(3)


send(type="hello", protocol=1, sdk="chaos/1.0")
while True:
    frame = backlog.popleft() if backlog else receive()
    if frame["type"] == "welcome":
        send(type="ready")
    elif frame["type"] == "task":
        work(frame)
    elif frame["type"] == "shutdown":
        sys.exit(0)
