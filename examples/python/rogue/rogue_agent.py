"""An agent that breaks the rules on demand, for tests. See `echo_agent.py` for how it is done rightly.

Before the handshake, by the environment variable ROGUE:
    garbage        bytes that are no frame                oversized      a length prefix of 4 GiB - 1
    early-ready    `ready` before `hello`                 early-call     a call before `hello`
    wrong-version  `hello` with protocol 99               mute           never says `hello`
    never-ready    never says `ready`                     exit           exits with status 7 before `hello`
    half-frame     half a frame, then silence

Later, by a task's input {"action": ...}:
    garbage, oversized, half-frame                        as above
    second-hello   a second `hello`                       unknown-type   a frame of an unknown type
    not-json       a frame that is not JSON               too-deep       JSON with 100,000 brackets
    hang           stops reading and answering            spin           the same, at full speed
    exit           exits with "status"                    signal         kills itself with "signal"
    look           answers with its environment, arguments and open descriptors
    flood          prints "bytes" bytes to stdout, then answers
    flood-progress sends "count" progress frames, then answers
    foreign-task   calls for a task that it was not given, and answers with the reply
    unknown-call   makes a system call that does not exist, and answers with the reply
    bad-arguments  makes a system call with an argument that it does not have, and answers with the reply
    same-step      uses one step key for two different calls, and answers with the second reply
    stubborn       never reacts to `cancel`, but answers pings
    twice          answers `done` two times
    large          answers with "bytes" bytes
    allocate       allocates "bytes" bytes, and answers with what came of it
    anything else  answers with the input
"""
import json, os, signal, socket, struct, sys, threading, time

FOREIGN = "task_00000000000000000000000000"
kernel = socket.socket(fileno=3)


def raw(data):
    kernel.sendall(data)


def send(**frame):
    payload = json.dumps(frame).encode()
    raw(struct.pack(">I", len(payload)) + payload)


def receive():
    header = kernel.recv(4, socket.MSG_WAITALL)
    if len(header) < 4:
        sys.exit(0)
    return json.loads(kernel.recv(struct.unpack(">I", header)[0], socket.MSG_WAITALL))


def silence():
    threading.Event().wait()


def spin():
    while True:
        pass


def break_framing(kind):
    """The misbehaviours that need no task; False if the kind is not one of them."""
    if kind == "garbage":
        raw(b"GET / HTTP/1.1\r\nHost: kernel\r\n\r\n\xff\xfe")
    elif kind == "oversized":
        raw(struct.pack(">I", 2**32 - 1))
    elif kind == "half-frame":
        raw(struct.pack(">I", 1000) + b'{"type":')
    else:
        return False
    silence()


def before_handshake(kind):
    if kind == "early-ready":
        send(type="ready")
    elif kind == "early-call":
        send(type="call", id=1, task=FOREIGN, step="s", syscall="kv.get", args={"key": "k"})
    elif kind == "wrong-version":
        send(type="hello", protocol=99, sdk="rogue")
    elif kind == "exit":
        sys.exit(7)
    elif kind == "never-ready":
        return
    elif kind == "mute" or not break_framing(kind):
        silence()
    while kernel.recv(4096):
        pass
    sys.exit(0)


def call(task, step, syscall, **args):
    """A call whose reply is waited for; pings in between are answered."""
    send(type="call", id=1, task=task, step=step, syscall=syscall, args=args)
    while (frame := receive())["type"] != "reply":
        if frame["type"] == "ping":
            send(type="pong", n=frame["n"])
    return {key: value for key, value in frame.items() if key in ("ok", "error")}


def look():
    # The directory's own descriptor is in the listing and closed by now.
    listed = [entry for entry in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + entry)]
    return {
        "environment": dict(os.environ),
        "arguments": sys.argv,
        "descriptors": {entry: os.readlink("/proc/self/fd/" + entry) for entry in sorted(listed, key=int)},
        "status": open("/proc/self/status").read(),
        "directory": os.getcwd(),
    }


def allocate(size):
    try:
        return {"allocated": len(bytearray(size))}
    except MemoryError:
        return {"refused": size}


def perform(task, action, order):
    """What the task answers; some actions never come back."""
    if action == "second-hello":
        send(type="hello", protocol=1, sdk="rogue")
        silence()
    elif action == "unknown-type":
        send(type="sudo", task=task)
        silence()
    elif action == "not-json":
        raw(struct.pack(">I", 8) + b"not json")
        silence()
    elif action == "too-deep":
        raw(struct.pack(">I", 200_000) + b"[" * 100_000 + b"]" * 100_000)
        silence()
    elif action == "hang":
        silence()
    elif action == "spin":
        spin()
    elif action == "exit":
        os._exit(order.get("status", 1))
    elif action == "signal":
        os.kill(os.getpid(), order.get("signal", signal.SIGKILL))
        silence()
    elif action == "look":
        return look()
    elif action == "flood":
        line = b"x" * 1023 + b"\n"
        for _ in range(order.get("bytes", 1 << 20) // len(line)):
            sys.stdout.buffer.write(line)
        sys.stdout.flush()
        return "flooded"
    elif action == "flood-progress":
        for number in range(order.get("count", 10_000)):
            send(type="progress", task=task, data=number)
        return "flooded"
    elif action == "foreign-task":
        return call(order.get("task", FOREIGN), "s", "kv.get", key="k")
    elif action == "unknown-call":
        return call(task, "s", "os.exec", command="sh")
    elif action == "bad-arguments":
        return call(task, "s", "kv.get", key="k", surprise=1)
    elif action == "same-step":
        call(task, "s", "kv.get", key="a")
        return call(task, "s", "kv.get", key="b")
    elif action == "twice":
        send(type="done", task=task, output="first")
        return "second"
    elif action == "large":
        return "x" * order.get("bytes", 2 << 20)
    elif action == "allocate":
        return allocate(order.get("bytes", 1 << 40))
    elif not break_framing(action):
        return order


def main():
    rogue = os.environ.get("ROGUE", "")
    if rogue:
        before_handshake(rogue)
    send(type="hello", protocol=1, sdk="rogue_agent.py/1.0")
    while True:
        frame = receive()
        if frame["type"] == "welcome" and rogue != "never-ready":
            send(type="ready")
        elif frame["type"] == "ping":
            send(type="pong", n=frame["n"])
        elif frame["type"] == "task":
            order = frame["input"] if isinstance(frame["input"], dict) else {}
            if order.get("action") != "stubborn":
                output = perform(frame["task"], order.get("action"), order)
                send(type="done", task=frame["task"], output=output)
        elif frame["type"] == "shutdown":
            return


if __name__ == "__main__":
    main()
