"""Times what one small client of the API sees of a daemon, and prints medians in milliseconds.

api.py start SOCKET COMMAND...        from the start of the daemon to its first answer, 20 times
api.py exec ROUNDS LABEL=SOCKET...    exec of true in a running container: create, start, read to the end, inspect
api.py run ROUNDS LABEL=SOCKET...     create, start, wait and remove a container
api.py many ROUNDS LABEL=SOCKET...    fifty containers created and started, eight at a time, and then removed so
api.py log ROUNDS FILE LABEL=SOCKET... a container that nobody is attached to writes the file to its log; the log is read
Several daemons take turns; each but the first is shown with its ratio to the first.
"""

import http.client
import json
import mmap
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


def warm(length):
    """Memory that was not used for a moment may have gone back to whoever lends it to this machine: it is asked for before
    the time is taken, and not by what is timed."""
    pages = mmap.mmap(-1, length)
    for at in range(0, length, mmap.PAGESIZE):
        pages[at] = 1
    pages.close()


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


def read_all(path, ask_for, room):
    """All that is answered, as it came. What it is, is looked at when the time is taken."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    connection.sendall(f"GET {ask_for} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    seen = 0
    while read := connection.recv_into(room[seen:], 1 << 20):
        seen += read
    connection.close()
    return room[:seen]


def payload(answer):
    """The bytes of the log in an answer that is chunked, and in frames within."""
    head = bytes(answer[:4096]).partition(b"\r\n\r\n")[0]
    assert head.startswith(b"HTTP/1.1 200 ") and b"chunked" in head, head
    frames, at, size = bytearray(), len(head) + 4, None
    while size != 0:
        line = bytes(answer[at : at + 20]).partition(b"\r\n")[0]
        size = int(line, 16)
        at += len(line) + 2
        frames += answer[at : at + size]
        at += size + 2
    at = total = 0
    while at < len(frames):
        size = int.from_bytes(frames[at + 4 : at + 8], "big")
        total += size
        at += 8 + size
    assert at == len(frames)
    return total


def log(rounds, file, sockets):
    length = os.path.getsize(file)
    # Touched once, so that no page of it is made while the time is taken.
    room = memoryview(bytearray(b"x") * (length * 5 // 4))
    times = {label: [] for label in sockets}
    for _ in range(rounds):
        for label, path in sockets.items():
            settle()
            connection = Connection(path)
            command = ["sh", "-c", "dd if=/lines bs=64k 2>/dev/null"]
            made = {"Image": "busybox", "Cmd": command, "HostConfig": HOST | {"Binds": [f"{file}:/lines:ro"]}}
            # Both make 1.7 times as much of it.
            warm(length * 7 // 4)
            begun = time.perf_counter()
            container = ask(connection, "POST", "/containers/create", made)["Id"]
            ask(connection, "POST", f"/containers/{container}/start")
            ask(connection, "POST", f"/containers/{container}/wait")
            written = time.perf_counter() - begun
            settle()
            begun = time.perf_counter()
            answer = read_all(path, f"/containers/{container}/logs?stdout=1&stderr=1", room)
            read = time.perf_counter() - begun
            if (got := payload(answer)) != length:
                sys.exit(f"{label}: {got} of {length} bytes came back")
            # Not kept alive by every daemon for as long as that took.
            ask(Connection(path), "DELETE", f"/containers/{container}")
            times[label].append((written, read))
    first = None
    for label, taken in times.items():
        medians = [statistics.median(times) for times in zip(*taken)]
        first = first or medians
        for what, took, ours in zip(("written", "read"), medians, first):
            rate = f"{length / took / 1e6:9.1f} MB/s"
            print(f"{label + f': a log of {length // 10**6} MB by the API, {what}':<52} {rate}   dhow's {took / ours:6.1f} times")


# The defaults of Debian's dockerd are more than a host without CAP_SYS_RESOURCE may set.
LIMITS = [{"Name": name, "Soft": most, "Hard": most} for name, most in (("nofile", 1024), ("nproc", 4096))]
HOST = {"NetworkMode": "none", "Ulimits": LIMITS}

what, where, *rest = sys.argv[1:]
if what == "start":
    start(where, rest)
elif what == "many":
    many(int(where), dict(word.split("=", 1) for word in rest))
elif what == "log":
    log(int(where), rest[0], dict(word.split("=", 1) for word in rest[1:]))
else:
    make, words = (exec_true, "exec of true by the API") if what == "exec" else (run_true, "create, start, wait, remove by the API")
    made = {label: make(path) for label, path in (word.split("=", 1) for word in rest)}
    in_turn(words, int(where), {label: once for label, (once, _) in made.items()})
    for _, end in made.values():
        end()
