"""The smallest worker: handshake, and for each task one `net.fetch` of its input; prints the reply, answers with it."""
import json, socket, struct
kernel = socket.socket(fileno=3)
def send(**frame):
    payload = json.dumps(frame).encode()
    kernel.sendall(struct.pack(">I", len(payload)) + payload)
def receive():
    length = struct.unpack(">I", kernel.recv(4, socket.MSG_WAITALL))[0]
    return json.loads(kernel.recv(length, socket.MSG_WAITALL))
send(type="hello", protocol=1, sdk="test")
receive()
send(type="ready")
while True:
    frame = receive()
    if frame["type"] == "ping":
        send(type="pong", n=frame["n"])
    elif frame["type"] == "task":
        task = frame["task"]
        send(type="call", id=1, task=task, step="fetch", syscall="net.fetch", args=frame["input"])
    elif frame["type"] == "reply":
        print(json.dumps(frame), flush=True)
        if "ok" in frame:
            send(type="done", task=task, output=frame["ok"])
        else:
            send(type="failed", task=task, **{"class": frame["error"]["class"], "message": frame["error"]["message"]})
