"""The load of the crash tests, on the worker of the echo example: a task is a list of steps, `[kind, key, argument]`."""


def step(task, kind, key, argument):
    if kind == "get":
        task.call(key, "net.fetch", url=argument)
    elif kind == "pay":
        task.call(key, "net.fetch", url=argument, method="POST", body="1")
    elif kind == "hook":
        task.call(key, "notify.webhook", url=argument, body={"task": task.id}, secret="hook")
    elif kind == "tell":
        task.call(key, "notify.event", kind="load.told", data=argument, dedupe_key=task.id)
    elif kind == "read":
        task.call(key, "file.read", path=argument)
    elif kind == "count":
        count(task)
    elif kind == "progress":
        task.progress(argument)
    elif kind == "wait":
        task.canceled.wait()
    elif kind == "forbidden":
        try:
            task.call(key, "file.read", path=argument)
        except CallError as error:
            if error.error["class"] != "denied":
                raise
    elif kind == "think":
        task.call(key, "model.call", model="fast", stream=key == "stream", body=question(argument, key))
    elif kind == "inside":
        inside({"model": "fast", **question(argument, key)})
    elif kind == "fail" and task.attempt <= argument[0]:
        raise CallError({"code": "load", "message": "as it was told", "class": argument[1]})
    elif kind == "die" and task.attempt <= argument:
        os._exit(3)


def question(task_key, step):
    return {"messages": [{"role": "user", "content": f"{task_key} {step}"}], "max_tokens": 40}


def inside(body):
    """As a program does that knows no system calls. What it is told is in the journal, a refusal too."""
    import http.client
    connection = http.client.HTTPConnection("127.0.0.1", 18801, timeout=30)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
        connection.getresponse().read()
    except (OSError, http.client.HTTPException) as error:
        raise CallError({"code": "load", "message": repr(error), "class": "transient"})
    finally:
        connection.close()


def load(task):
    for kind, key, argument in task.input["steps"]:
        if task.canceled.is_set():
            break
        step(task, kind, key, argument)
    return {"steps": len(task.input["steps"])}


def surf(port, worker):
    """What the program wants of the network by itself, over and over: one thing that is granted and one that is not. Only beside
    its work, so that at rest nothing is under way whose end the log has still to get."""
    import socket, time
    while True:
        for target in (f"localhost:{port}", "elsewhere.test:80") if worker.tasks else ():
            try:
                with socket.create_connection(("127.0.0.1", 3128), timeout=5) as stream:
                    stream.sendall(f"GET http://{target}/mark HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n".encode())
                    while stream.recv(4096):
                        pass
            except OSError:
                pass
        time.sleep(0.3)


worker = Worker(load)
threading.Thread(target=surf, args=(SINK_PORT, worker), daemon=True).start()
worker.run()
