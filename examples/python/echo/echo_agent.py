"""An AgentOS worker in plain Python (3.9 or later), without any library: worker protocol version 1 on descriptor 3.

A frame is a big-endian u32 length and that many bytes of one JSON object. The main thread reads frames and answers pings;
every task runs in a thread of its own. A real agent replaces `handle`; the rest can stay as it is.
"""
import itertools, json, os, queue, random, socket, struct, sys, threading, time


class CallError(Exception):
    """The kernel refused a call, or the call failed. `class` says whether trying the task again can help."""

    def __init__(self, error):
        super().__init__(error["code"] + ": " + error["message"])
        self.code, self.error = error["code"], error


class Task:
    """One attempt at one task: what a handler gets."""

    def __init__(self, worker, frame):
        self.worker, self.id, self.input = worker, frame["task"], frame["input"]
        self.attempt, self.canceled = frame["attempt"], threading.Event()

    def call(self, step, syscall, **args):
        """One system call. `step` is unique within the task and the same on every attempt."""
        return self.worker.call(self.id, step, syscall, args)

    def progress(self, data):
        self.worker.send({"type": "progress", "task": self.id, "data": data})


class Worker:
    def __init__(self, handler):
        self.handler, self.tasks, self.waiting = handler, {}, {}
        self.lock, self.numbers = threading.Lock(), itertools.count(1)
        self.socket = socket.socket(fileno=3)
        os.set_inheritable(3, False)  # A program that this worker starts must not speak in its name.

    def send(self, frame):
        payload = json.dumps(frame).encode()
        with self.lock:
            self.socket.sendall(struct.pack(">I", len(payload)) + payload)

    def receive(self):
        header = self.socket.recv(4, socket.MSG_WAITALL)
        if len(header) < 4:
            return None
        return json.loads(self.socket.recv(struct.unpack(">I", header)[0], socket.MSG_WAITALL))

    def call(self, task, step, syscall, args):
        number, answer = next(self.numbers), queue.Queue(1)
        self.waiting[number] = answer
        self.send({"type": "call", "id": number, "task": task, "step": step, "syscall": syscall, "args": args})
        reply = answer.get()
        if "error" in reply:
            raise CallError(reply["error"])
        return reply["ok"]

    def work(self, task):
        try:
            answer = {"type": "done", "output": self.handler(task)}
        except CallError as error:
            answer = {"type": "failed", "class": error.error["class"], "message": str(error)}
        except Exception as error:
            answer = {"type": "failed", "class": "permanent", "message": repr(error)}
        with self.lock:  # Either the main thread sees the task here and sets `canceled`, or the cancel came too late.
            self.tasks.pop(task.id, None)
        self.send({"type": "canceled", "task": task.id} if task.canceled.is_set() else {**answer, "task": task.id})

    def run(self):
        self.send({"type": "hello", "protocol": 1, "sdk": "echo_agent.py/1.0"})
        while (frame := self.receive()) is not None:
            kind = frame["type"]
            if kind == "welcome":
                self.send({"type": "ready"})
            elif kind == "ping":
                self.send({"type": "pong", "n": frame["n"]})
            elif kind == "task":
                task = self.tasks[frame["task"]] = Task(self, frame)
                threading.Thread(target=self.work, args=(task,), daemon=True).start()
            elif kind == "reply" and frame["id"] in self.waiting:
                self.waiting.pop(frame["id"]).put(frame)
            elif kind == "cancel":
                with self.lock:
                    if frame["task"] in self.tasks:
                        self.tasks[frame["task"]].canceled.set()
            elif kind == "shutdown":
                return
            elif kind == "fatal":
                sys.exit(frame["code"] + ": " + frame["message"])


def count(task):
    """A counter that loses nothing when several tasks count at the same time."""
    for round in range(100):
        seen = task.call(f"get-{round}", "kv.get", key="count")
        value = (seen["value"] or 0) + 1
        try:
            task.call(f"put-{round}", "kv.put", key="count", value=value, if_version=seen["version"])
            return value
        except CallError as error:
            if error.code != "AOS-1610":  # Somebody else counted in between: read again, out of step with the others.
                raise
            time.sleep(random.uniform(0, 0.001 * 2 ** min(round, 7)))
    raise RuntimeError("the counter changed 100 times in a row")


def handle(task):
    action = task.input.get("action", "echo") if isinstance(task.input, dict) else "echo"
    if action == "fetch":
        return task.call("fetch", "net.fetch", url=task.input["url"])
    if action == "read":
        return task.call("read", "file.read", path=task.input["path"])
    if action == "count":
        return count(task)
    if action == "sleep_until_canceled":
        task.progress({"waiting": True})
        task.canceled.wait()
    return task.input


if __name__ == "__main__":
    Worker(handle).run()
