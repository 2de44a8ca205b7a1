"""A worker for tests: MODE says how it starts, the input of a task says how it behaves."""

import json, os, signal, socket, struct, subprocess, sys, time

kernel = socket.socket(fileno=3)
mode = os.environ.get("MODE", "good")
pending = {}
# Inside of a sandbox every worker has the same process number.
life = os.urandom(8).hex()


def send(frame):
    body = json.dumps(frame).encode()
    kernel.sendall(struct.pack(">I", len(body)) + body)


def take(count):
    data = b""
    while len(data) < count:
        more = kernel.recv(count - len(data))
        if not more:
            sys.exit(0)
        data += more
    return data


def receive():
    return json.loads(take(struct.unpack(">I", take(4))[0]))


def hang():
    while True:
        time.sleep(1000)


def call(number, task, **fields):
    frame = {"type": "call", "id": number, "task": task, "step": f"s{number}", "syscall": "kv.get", "args": {"key": "k"}}
    send(frame | fields)


def done(task, output):
    send({"type": "done", "task": task, "output": output})


def work(frame):
    task, what, attempt = frame["task"], frame["input"], frame["attempt"]
    do = what.get("do", "echo")
    if do.endswith("-once"):
        do = do.removesuffix("-once") if attempt == 1 else "echo"
    if do == "echo":
        done(task, {"said": what.get("say"), "attempt": attempt, "life": life})
    elif do == "exit":
        os._exit(what.get("code", 1))
    elif do == "done-and-exit":
        done(task, "last words")
        os._exit(1)
    elif do == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif do == "hang":
        hang()
    elif do == "garbage":
        kernel.sendall(b"\0\0\0\4\xff\xfe\xfd\xfc")
    elif do == "print-to-socket":
        kernel.sendall(b"Traceback (most recent call last):\n")
    elif do == "partial":
        kernel.sendall(b"\0\0\0\x10{")
        kernel.close()
        os.close(3) if os.path.exists("/proc/self/fd/3") else None
        hang()
    elif do == "hello-again":
        send({"type": "hello", "protocol": 1, "sdk": "test"})
    elif do == "deep":
        done(task, json.loads("[" * 100 + "]" * 100))
    elif do == "foreign-done":
        done("task_00000000000000000000000000", 1)
    elif do == "foreign-call":
        pending[7] = task
        call(7, "task_00000000000000000000000000")
    elif do == "call":
        pending[1] = task
        call(1, task, args=what["args"])
    elif do == "too-many-calls":
        for number in range(65):
            call(number, task, syscall="test.never")
    elif do == "same-call-twice":
        call(1, task, syscall="test.never")
        call(1, task, syscall="test.never")
    elif do == "call-and-die":
        call(1, task, syscall="test.slow")
        time.sleep(0.1)
        os._exit(1)
    elif do == "unasked-pong":
        send({"type": "pong", "n": 99})
    elif do == "unasked-cancel":
        send({"type": "canceled", "task": task})
    elif do == "fail":
        send({"type": "failed", "task": task, "class": "permanent", "message": "cannot do that"})
    elif do == "progress":
        for part in range(what["parts"]):
            send({"type": "progress", "task": task, "data": {"part": part}})
        done(task, "all parts")
    elif do == "environ":
        done(task, {"environ": dict(os.environ), "cwd": os.getcwd(), "fds": sorted(os.listdir("/proc/self/fd"))})
    elif do == "child":
        done(task, subprocess.Popen(["/bin/sleep", "1000"]).pid)
    elif do == "daemon":
        # Leaves session and parent, which is how a daemon escapes its process group.
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.close(3)
                os.execv("/bin/sleep", ["sleep", "1000"])
            os._exit(0)
        os.wait()
        done(task, "escaped")
    elif do == "shell":
        found = subprocess.run(["/bin/sh", "-c", what["script"]], capture_output=True, text=True, close_fds=True)
        done(task, {"status": found.returncode, "out": found.stdout, "err": found.stderr})
    elif do == "python":
        exec(what["script"], {"done": lambda output: done(task, output)})
    elif do == "burn":
        end = time.process_time() + 0.3
        while time.process_time() < end:
            pass
        done(task, "burnt")
    elif do == "print":
        print(what["say"], flush=True)
        print("to stderr", file=sys.stderr, flush=True)
        done(task, "printed")
    elif do == "flood":
        for _ in range(200):
            os.write(1, b"x" * 10 + b"\n" + b"y" * 20000 + b"\n" * 500)
        done(task, "flooded")
    elif do == "stubborn":
        pass
    elif do == "wait":
        pending["wait"] = task
    else:
        send({"type": "failed", "task": task, "class": "permanent", "message": f"unknown: {do}"})


def main():
    if mode == "exit":
        os._exit(3)
    if mode == "silent":
        hang()
    if mode == "garbage":
        kernel.sendall(b"GET / HTTP/1.1\r\n\r\n")
        hang()
    if mode == "ready-first":
        send({"type": "ready"})
        hang()
    send({"type": "hello", "protocol": 99 if mode == "version" else 1, "sdk": "test"})
    while True:
        frame = receive()
        kind = frame["type"]
        if kind == "welcome":
            if mode != "unready":
                send({"type": "ready"})
        elif kind == "ping":
            send({"type": "pong", "n": frame["n"]})
        elif kind == "task":
            work(frame)
        elif kind == "reply":
            task = pending.pop(frame["id"], None)
            if task:
                done(task, {"ok": frame["ok"]} if "ok" in frame else {"error": frame["error"]["code"]})
        elif kind == "cancel":
            if pending.get("wait") == frame["task"]:
                send({"type": "canceled", "task": frame["task"]})
        elif kind == "shutdown":
            if mode != "clinging":
                sys.exit(0)
        elif kind == "fatal":
            print("fatal " + frame["code"], flush=True)


main()
