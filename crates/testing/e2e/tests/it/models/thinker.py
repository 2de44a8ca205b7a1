"""A worker that asks a model two things for each task, through its loopback, and answers with both answers."""
import http.client, json, os, socket, struct
kernel = socket.socket(fileno=3)
def send(**frame):
    payload = json.dumps(frame).encode()
    kernel.sendall(struct.pack(">I", len(payload)) + payload)
def receive():
    length = struct.unpack(">I", kernel.recv(4, socket.MSG_WAITALL))[0]
    return json.loads(kernel.recv(length, socket.MSG_WAITALL))
def think(text):
    connection = http.client.HTTPConnection("127.0.0.1", 18801, timeout=60)
    body = json.dumps({"model": "fast", "messages": [{"role": "user", "content": text}]})
    connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
    answer = json.loads(connection.getresponse().read())
    return answer["choices"][0]["message"]["content"]
send(type="hello", protocol=1, sdk="test")
receive()
send(type="ready")
while True:
    frame = receive()
    if frame["type"] == "ping":
        send(type="pong", n=frame["n"])
    elif frame["type"] == "task":
        send(type="done", task=frame["task"], output={"answers": [think("a first question"), think("a second question")]})
    elif frame["type"] == "shutdown":
        os._exit(0)
