"""A worker that runs a command for each task and answers with what came of it: {"command": [...], "input": "",
"timeout_s": 30}."""
import json, os, socket, struct, subprocess, threading
kernel = socket.socket(fileno=3)
lock = threading.Lock()
def send(**frame):
    payload = json.dumps(frame).encode()
    with lock:
        kernel.sendall(struct.pack(">I", len(payload)) + payload)
def receive():
    length = struct.unpack(">I", kernel.recv(4, socket.MSG_WAITALL))[0]
    return json.loads(kernel.recv(length, socket.MSG_WAITALL))
def work(task, order):
    try:
        done = subprocess.run(order["command"], capture_output=True, input=order.get("input", "").encode(), timeout=order.get("timeout_s", 30))
        output = {"code": done.returncode, "out": done.stdout.decode("utf8", "replace"), "err": done.stderr.decode("utf8", "replace")}
    except subprocess.TimeoutExpired:
        output = {"code": -1, "out": "", "err": "time"}
    send(type="done", task=task, output=output)
send(type="hello", protocol=1, sdk="test")
receive()
send(type="ready")
while True:
    frame = receive()
    if frame["type"] == "ping":
        send(type="pong", n=frame["n"])
    elif frame["type"] == "task":
        threading.Thread(target=work, args=(frame["task"], frame["input"]), daemon=True).start()
    elif frame["type"] == "shutdown":
        os._exit(0)
