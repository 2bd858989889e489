"""Times what one small client of the API sees of a daemon, and prints medians in milliseconds.

api.py start SOCKET COMMAND...        from the start of the daemon to its first answer, 20 times
api.py exec ROUNDS LABEL=SOCKET...    exec of true in a running container: create, start, read to the end, inspect
api.py run ROUNDS LABEL=SOCKET...     create, start, wait and remove a container
api.py many ROUNDS LABEL=SOCKET...    fifty containers created and started, eight at a time, and then removed so
Several daemons take turns; each but the first is shown with its ratio to the first.
"""

import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor


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


def report(label, times, first=None):
    times = [time * 1000 for time in times]
    median = statistics.median(times)
    ratio = f"   {median / first:6.1f} times" if first else ""
    print(f"{label:<44} median {median:8.2f} ms   least {min(times):8.2f} ms{ratio}")
    return median


def settle():
    """What one daemon still does when it has answered is not for the next to wait for."""
    os.sync()
    time.sleep(0.1)


def in_turn(what, rounds, works):
    for work in works.values():
        work()
    times = {label: [] for label in works}
    # In blocks: each is warm by its own work, and none pays for what another still does.
    for _ in range(5):
        for label, work in works.items():
            settle()
            work()
            for _ in range(max(rounds // 5, 1)):
                begun = time.perf_counter()
                work()
                times[label].append(time.perf_counter() - begun)
    first = None
    for label, taken in times.items():
        median = report(f"{label}: {what}", taken, first)
        first = first or median


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


def exec_true(path):
    connection = Connection(path)
    made = {"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": HOST}
    container = ask(connection, "POST", "/containers/create", made)["Id"]
    ask(connection, "POST", f"/containers/{container}/start")

    def once():
        exec_id = ask(connection, "POST", f"/containers/{container}/exec", {"Cmd": ["true"], "AttachStdout": True})["Id"]
        other = Connection(path)
        ask(other, "POST", f"/exec/{exec_id}/start", {})
        other.close()
        assert ask(connection, "GET", f"/exec/{exec_id}/json")["ExitCode"] == 0

    return once, lambda: ask(connection, "DELETE", f"/containers/{container}?force=1")


def run_true(path):
    connection = Connection(path)
    made = {"Image": "busybox", "Cmd": ["true"], "HostConfig": HOST}

    def once():
        container = ask(connection, "POST", "/containers/create", made)["Id"]
        ask(connection, "POST", f"/containers/{container}/start")
        ask(connection, "POST", f"/containers/{container}/wait")
        ask(connection, "DELETE", f"/containers/{container}")

    return once, lambda: None


def many(rounds, sockets):
    def begin(connection, _):
        made = {"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": HOST}
        container = ask(connection, "POST", "/containers/create", made)["Id"]
        ask(connection, "POST", f"/containers/{container}/start")
        return container

    def remove(connection, container):
        ask(connection, "DELETE", f"/containers/{container}?force=1")

    def eight(path, work, items):
        """A connection each, and whoever has done one takes the next."""
        own = threading.local()

        def one(item):
            if not hasattr(own, "connection"):
                own.connection = Connection(path)
            return work(own.connection, item)

        begun = time.perf_counter()
        with ThreadPoolExecutor(8) as pool:
            done = list(pool.map(one, items))
        return len(done) / (time.perf_counter() - begun), done

    first = None
    for label, path in sockets.items():
        rates = []
        # The first round warms up.
        for _ in range(rounds + 1):
            settle()
            started, containers = eight(path, begin, range(50))
            settle()
            removed, _ = eight(path, remove, containers)
            rates.append((started, removed))
        medians = [statistics.median(rate) for rate in zip(*rates[1:])]
        first = first or medians
        for what, rate, ours in zip(("started", "removed"), medians, first):
            print(f"{label + f': 50 by the API, 8 at a time, {what}':<44} {rate:8.1f} /s   dhow's {ours / rate:6.1f} times")


# The defaults of Debian's dockerd are more than a host without CAP_SYS_RESOURCE may set.
LIMITS = [{"Name": name, "Soft": most, "Hard": most} for name, most in (("nofile", 1024), ("nproc", 4096))]
HOST = {"NetworkMode": "none", "Ulimits": LIMITS}

what, where, *rest = sys.argv[1:]
if what == "start":
    start(where, rest)
elif what == "many":
    many(int(where), dict(word.split("=", 1) for word in rest))
else:
    make, words = (exec_true, "exec of true by the API") if what == "exec" else (run_true, "create, start, wait, remove by the API")
    made = {label: make(path) for label, path in (word.split("=", 1) for word in rest)}
    in_turn(words, int(where), {label: once for label, (once, _) in made.items()})
    for _, end in made.values():
        end()
