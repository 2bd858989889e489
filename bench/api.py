"""Times what one small client of the API sees of a daemon, and prints medians in milliseconds.

api.py start SOCKET COMMAND...   from the start of the daemon to its first answer, 20 times
api.py exec SOCKET ROUNDS        exec of true in a running container: create, start, read to the end, inspect
api.py run SOCKET ROUNDS         create, start, wait and remove a container
"""

import http.client
import json
import socket
import statistics
import subprocess
import sys
import time


class Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


def ask(connection, method, path, body=None):
    headers = {"Content-Type": "application/json"} if body is not None else {}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    content = answer.read()
    if answer.status >= 400:
        sys.exit(f"{method} {path}: {answer.status} {content.decode()}")
    return json.loads(content) if content[:1] in (b"{", b"[") else content


def report(label, times):
    times = [time * 1000 for time in times]
    print(f"{label:<44} median {statistics.median(times):8.2f} ms   least {min(times):8.2f} ms")


def timed(rounds, work):
    work()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return times


def start(path, command):
    times = []
    for _ in range(20):
        begun = time.perf_counter()
        daemon = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while True:
            try:
                connection = Connection(path)
                if ask(connection, "GET", "/_ping") == b"OK":
                    break
            except OSError:
                time.sleep(0.0002)
        times.append(time.perf_counter() - begun)
        connection.close()
        daemon.terminate()
        daemon.wait()
    report("start to the first /_ping", times)


def exec_true(path, rounds):
    connection = Connection(path)
    made = {"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": "none"}}
    container = ask(connection, "POST", "/containers/create", made)["Id"]
    ask(connection, "POST", f"/containers/{container}/start")

    def once():
        exec_id = ask(connection, "POST", f"/containers/{container}/exec", {"Cmd": ["true"], "AttachStdout": True})["Id"]
        other = Connection(path)
        ask(other, "POST", f"/exec/{exec_id}/start", {})
        other.close()
        assert ask(connection, "GET", f"/exec/{exec_id}/json")["ExitCode"] == 0

    report("exec of true by the API", timed(rounds, once))
    ask(connection, "DELETE", f"/containers/{container}?force=1")


def run_true(path, rounds):
    connection = Connection(path)
    made = {"Image": "busybox", "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}}

    def once():
        container = ask(connection, "POST", "/containers/create", made)["Id"]
        ask(connection, "POST", f"/containers/{container}/start")
        ask(connection, "POST", f"/containers/{container}/wait")
        ask(connection, "DELETE", f"/containers/{container}")

    report("create, start, wait, remove by the API", timed(rounds, once))


what, where, *rest = sys.argv[1:]
if what == "start":
    start(where, rest)
elif what == "exec":
    exec_true(where, int(rest[0]))
else:
    run_true(where, int(rest[0]))
