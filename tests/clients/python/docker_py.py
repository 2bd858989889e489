"""What users of docker-py do, part by part: docker_py.py PART. The daemon is DOCKER_HOST's; the image busybox is there.

Each assertion is about what a real daemon answers. A container has no network unless a part is about networks.
"""

import datetime
import io
import os
import socket
import struct
import sys
import tarfile
import tempfile
import threading
import time

import docker
from docker import errors, types

IMAGE = "busybox"
client = docker.from_env(timeout=250)
api = client.api


def same(got, want):
    assert got == want, f"\n got {got!r}\nwant {want!r}"


def within(got, *parts):
    for part in parts:
        assert part in got, f"{part!r} is not in {got!r}"


def refused(kind, call, status, *words):
    """The call raises this kind of error, with this status and these words in its explanation."""
    try:
        call()
    except kind as error:
        same(error.status_code, status)
        within(error.explanation, *words)
        return error
    raise AssertionError(f"no {kind.__name__}")


def eventually(what, holds, patience=250):
    end = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < end, f"did not happen: {what}"
        time.sleep(0.02)


def create(line=None, **options):
    options.setdefault("network_mode", "none")
    return client.containers.create(IMAGE, ["sh", "-c", line] if line else None, **options)


def run(line, **options):
    options.setdefault("network_mode", "none")
    return client.containers.run(IMAGE, ["sh", "-c", line], **options)


def sleeper(**options):
    box = run("trap 'exit 5' TERM; echo up; while :; do sleep 0.1; done", detach=True, **options)
    eventually("it is up", lambda: box.logs() == b"up\n")
    return box


def life():
    """create, start, wait, logs, stop and the others, as objects and as calls."""
    box = create("echo out; echo err >&2; exit 3", name="hull", labels={"sea": "red"}, environment=["A=b"])
    same((box.name, box.status, box.labels, box.short_id), ("hull", "created", {"sea": "red"}, box.id[:12]))
    same(box.image.tags, ["busybox:latest"])
    same(box.attrs["State"]["StartedAt"], "0001-01-01T00:00:00Z")
    box.start()
    same(box.wait(), {"StatusCode": 3})
    box.reload()
    same((box.status, box.attrs["State"]["ExitCode"]), ("exited", 3))
    same(box.logs(), b"out\nerr\n")
    same((box.logs(stdout=False), box.logs(stderr=False)), (b"err\n", b"out\n"))
    same(box.logs(tail=1), b"err\n")
    stamp, _, text = box.logs(stderr=False, timestamps=True).partition(b" ")
    same(text, b"out\n")
    assert stamp.endswith(b"Z") and len(stamp) == len("2026-01-02T03:04:05.123456789Z"), stamp
    same(box.logs(since=int(time.time()) + 100), b"")
    same(list(box.logs(stream=True, follow=True)), [b"out\n", b"err\n"])
    same([it.name for it in client.containers.list(all=True, filters={"label": ["sea=red"]})], ["hull"])
    same(client.containers.list(), [])
    box.rename("keel")
    same(client.containers.get("keel").id, box.id)
    box.remove()
    refused(errors.NotFound, box.reload, 404, f"No such container: {box.id}")

    same(run("echo ahoy", remove=True), b"ahoy\n")
    failed = None
    try:
        run("echo bad >&2; exit 4", remove=True)
    except errors.ContainerError as error:
        failed = error
    same((failed.exit_status, failed.stderr), (4, b"bad\n"))

    box = sleeper(name="hull")
    same([it.status for it in client.containers.list()], ["running"])
    same(box.top()["Titles"], ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"])
    same(box.top(ps_args="-o pid,comm")["Titles"], ["PID", "COMMAND"])
    box.pause()
    box.reload()
    same((box.status, box.attrs["State"]["Paused"]), ("paused", True))
    refused(errors.APIError, box.pause, 409, f"Container {box.id} is already paused")
    box.unpause()
    refused(errors.APIError, box.unpause, 500, f"Container {box.id} is not paused")
    refused(errors.APIError, box.remove, 409, f"cannot remove container \"{box.id}\": container is running: stop the container before removing or force remove")
    box.restart(timeout=5)
    box.reload()
    same(box.status, "running")
    eventually("it is up again", lambda: box.logs() == b"up\nup\n")
    # As api.wait() does, which does not say when it waits.
    waits = api._post(api._url("/containers/{0}/wait", box.id), params={"condition": "next-exit"}, stream=True)
    box.stop()
    same(api._result(waits, True), {"StatusCode": 5})
    same(api.wait(box.id, condition="not-running"), {"StatusCode": 5})
    box.stop()
    refused(errors.APIError, box.kill, 409, f"cannot kill container: {box.id}: container {box.id} is not running")
    box.start()
    box.start()
    box.kill()
    same(box.wait(timeout=30)["StatusCode"], 137)
    box.remove(v=True)

    # Two of three are to go.
    kept = sleeper(labels={"keep": ""})
    for _ in range(2):
        create("true").start()
    eventually("they have ended", lambda: len(client.containers.list(filters={"status": "exited"}, all=True)) == 2)
    pruned = client.containers.prune(filters={"label!": ["keep"]})
    same(len(pruned["ContainersDeleted"]), 2)
    same(type(pruned["SpaceReclaimed"]), int)
    same([it.id for it in client.containers.list(all=True)], [kept.id])
    same(kept.update(restart_policy={"Name": "on-failure", "MaximumRetryCount": 2})["Warnings"], None)
    kept.reload()
    same(kept.attrs["HostConfig"]["RestartPolicy"], {"Name": "on-failure", "MaximumRetryCount": 2})
    kept.remove(force=True)
    same(client.containers.prune(), {"ContainersDeleted": None, "SpaceReclaimed": 0})


def options():
    """What is asked for at create is what inspect shows and what the container has."""
    volume = client.volumes.create("hold", labels={"a": "b"})
    box = create(
        "id -u; pwd; echo $A; hostname; cat /proc/sys/net/ipv4/ip_default_ttl; ls /v /t; ulimit -n; cat /etc/hosts",
        user="1000",
        working_dir="/tmp",
        environment={"A": "b c"},
        hostname="mast",
        sysctls={"net.ipv4.ip_default_ttl": 70},
        volumes={"hold": {"bind": "/v", "mode": "ro"}},
        tmpfs={"/t": "size=1m"},
        ulimits=[types.Ulimit(name="nofile", soft=100, hard=200)],
        extra_hosts={"pier": "192.0.2.7"},
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        read_only=True,
        init=True,
        stop_signal="SIGINT",
        shm_size="8m",
        restart_policy={"Name": "no"},
        log_config=types.LogConfig(type="json-file", config={"max-size": "1m"}),
    )
    attrs = box.attrs
    host, config = attrs["HostConfig"], attrs["Config"]
    same((config["User"], config["WorkingDir"], config["Hostname"], config["StopSignal"]), ("1000", "/tmp", "mast", "SIGINT"))
    within(config["Env"], "A=b c")
    same((host["Binds"], host["CapDrop"], host["SecurityOpt"], host["ReadonlyRootfs"]), (["hold:/v:ro"], ["ALL"], ["no-new-privileges"], True))
    same((host["ShmSize"], host["Init"], host["NetworkMode"]), (8 << 20, True, "none"))
    same(host["Ulimits"], [{"Name": "nofile", "Soft": 100, "Hard": 200}])
    same(host["LogConfig"], {"Type": "json-file", "Config": {"max-size": "1m"}})
    mount = attrs["Mounts"][0]
    same((mount["Type"], mount["Name"], mount["Destination"], mount["RW"], mount["Mode"]), ("volume", "hold", "/v", False, "ro"))
    box.start()
    same(box.wait()["StatusCode"], 0)
    lines = box.logs().decode().splitlines()
    same(lines[:5], ["1000", "/tmp", "b c", "mast", "70"])
    within(lines, "100")
    within("\n".join(lines), "192.0.2.7\tpier")
    refused(errors.APIError, lambda: volume.remove(), 409, "volume is in use - [" + box.id + "]")
    box.remove()
    same([it.name for it in client.volumes.list(filters={"label": "a=b"})], ["hold"])
    same((volume.attrs["Driver"], volume.attrs["Scope"], volume.attrs["Labels"]), ("local", "local", {"a": "b"}))
    volume.remove()
    refused(errors.NotFound, lambda: client.volumes.get("hold"), 404, "get hold: no such volume")
    client.volumes.create()
    same(len(client.volumes.prune()["VolumesDeleted"]), 1)
    mounts = [types.Mount("/m", "held", type="volume"), types.Mount("/t", None, type="tmpfs", tmpfs_size=1 << 20)]
    same(run("touch /m/file; ls /m; stat -f -c %T /t", mounts=mounts, remove=True), b"file\ntmpfs\n")
    client.volumes.get("held").remove(force=True)
    missing = [types.Mount("/m", "/no/such/path", type="bind")]
    refused(errors.APIError, lambda: create(mounts=missing), 400, 'invalid mount config for type "bind": bind source path does not exist: /no/such/path')


def execs():
    """exec: whole, streamed, apart, over a socket, on a terminal, detached."""
    box = sleeper(name="hull", environment=["A=b"])
    same(box.exec_run("echo ahoy"), (0, b"ahoy\n"))
    same(box.exec_run(["sh", "-c", "echo out; echo err >&2; exit 9"], demux=True), (9, (b"out\n", b"err\n")))
    same(box.exec_run("true", demux=True), (0, (None, None)))
    code, output = box.exec_run("sh -c 'for i in 1 2 3; do echo $i; sleep 0.2; done'", stream=True)
    # Those that come at once are one.
    same((code, b"".join(output)), (None, b"1\n2\n3\n"))
    code, output = box.exec_run("sh -c 'echo out; sleep 0.2; echo err >&2'", stream=True, demux=True)
    same(list(output), [(b"out\n", None), (None, b"err\n")])
    line = "sh -c 'echo $A $C $(pwd) $(id -un)'"
    same(box.exec_run(line, environment={"C": "d"}, workdir="/tmp", user="user"), (0, b"b d /tmp user\n"))
    same(box.exec_run("no-such-program")[0], 127)
    within(box.exec_run("no-such-program")[1], b"exec: \"no-such-program\": executable file not found in $PATH")
    same(box.exec_run("/etc")[0], 126)

    _, stream = box.exec_run("cat", stdin=True, socket=True)
    raw = stream._sock
    raw.sendall(b"down the wire")
    raw.shutdown(socket.SHUT_WR)
    same(frames(raw), [(1, b"down the wire")])
    stream.close()

    _, stream = box.exec_run(["sh", "-c", "tty; read word; echo got $word; exit 6"], stdin=True, tty=True, socket=True)
    stream._sock.sendall(b"anchor\n")
    everything = rest(stream._sock)
    within(everything, b"/dev/pts/", b"got anchor\r\n")
    stream.close()

    made = api.exec_create(box.id, ["sleep", "60"], tty=True)
    shown = api.exec_inspect(made["Id"])
    same((shown["Running"], shown["ExitCode"], shown["ContainerID"], shown["Pid"]), (False, None, box.id, 0))
    same(shown["ProcessConfig"], {"tty": True, "entrypoint": "sleep", "arguments": ["60"], "privileged": False})
    api.exec_start(made["Id"], detach=True)
    eventually("it runs", lambda: api.exec_inspect(made["Id"])["Running"])
    api.exec_resize(made["Id"], height=40, width=90)
    box.reload()
    same(box.attrs["ExecIDs"], [made["Id"]])
    assert api.exec_start(made["Id"]) == f"exec command {made['Id']} is already running\r\n".encode()
    refused(errors.APIError, lambda: api.exec_start(made["Id"], detach=True), 409)
    refused(errors.NotFound, lambda: api.exec_inspect("nothing"), 404, "No such exec instance: nothing")
    box.pause()
    refused(errors.APIError, lambda: box.exec_run("true"), 409, f"Container {box.id} is paused, unpause the container before exec")
    box.unpause()
    box.kill()
    box.wait()
    refused(errors.APIError, lambda: box.exec_run("true"), 409, f"container {box.id} is not running")
    box.remove()


def rest(raw):
    read = b""
    while chunk := raw.recv(4096):
        read += chunk
    return read


def frames(raw):
    """The frames of a stream: which it is, and its bytes."""
    read, found = rest(raw), []
    while read:
        kind, length = struct.unpack(">BxxxL", read[:8])
        found.append((kind, read[8:8 + length]))
        read = read[8 + length:]
    return found


def attaching():
    """attach before the start, streamed and over a socket; sizes of terminals; logs that are followed."""
    box = create("echo one; sleep 0.2; echo two >&2")
    stream = box.attach(stream=True, logs=True, demux=True)
    box.start()
    same(list(stream), [(b"one\n", None), (None, b"two\n")])
    same(box.attach(logs=True, stream=False), b"one\ntwo\n")
    box.remove()

    box = client.containers.create(IMAGE, "cat", stdin_open=True, network_mode="none")
    stream = box.attach_socket(params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
    box.start()
    stream._sock.sendall(b"through\n")
    stream._sock.shutdown(socket.SHUT_WR)
    same(frames(stream._sock), [(1, b"through\n")])
    stream.close()
    same(box.wait()["StatusCode"], 0)
    box.remove()

    box = create("read word; stty size; echo $word", tty=True, stdin_open=True)
    box.start()
    box.resize(height=33, width=77)
    stream = box.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1, "logs": 1})
    stream._sock.sendall(b"mast\n")
    within(rest(stream._sock), b"33 77\r\nmast\r\n")
    stream.close()
    same(box.wait()["StatusCode"], 0)
    box.remove()

    box = run("for i in 1 2 3 4; do echo line $i; until [ -e /$i ]; do sleep 0.05; done; done", detach=True)
    lines = []
    for line in box.logs(stream=True, follow=True):
        lines.append(line)
        # Lines come as they are written: the next one is not written before.
        same(box.exec_run(["touch", f"/{len(lines)}"])[0], 0)
        if len(lines) == 4:
            break
    same(lines, [b"line 1\n", b"line 2\n", b"line 3\n", b"line 4\n"])
    box.wait()
    since = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)
    same(box.logs(since=since, tail=2), b"line 3\nline 4\n")
    box.remove()

    # Whoever stops following is not followed any more.
    box = sleeper()
    stream = box.logs(stream=True, follow=True)
    threading.Timer(0.3, stream.close).start()
    same(list(stream), [b"up\n"])
    box.remove(force=True)


def tar_of(name, content, mode=0o644):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode, entry.mtime = len(content), mode, 1_000_000_000
        tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def opened(chunks):
    return tarfile.open(fileobj=io.BytesIO(b"".join(chunks)))


def files():
    """Archives in and out, diff, export, commit, save, load, import, tags."""
    box = create("cat /tmp/dir/file")
    same(box.put_archive("/tmp", tar_of("dir/file", b"content\n", 0o640)), True)
    chunks, stat = box.get_archive("/tmp/dir/file")
    # Go's file mode and the time as it is written there.
    same((stat["name"], stat["size"], stat["mode"], stat["linkTarget"]), ("file", 8, 0o640, ""))
    same(stat["mtime"][:19], "2001-09-09T01:46:40")
    with opened(chunks) as tar:
        same((tar.getnames(), tar.extractfile("file").read()), (["file"], b"content\n"))
    chunks, stat = box.get_archive("/tmp/dir", chunk_size=512)
    same(stat["mode"], (1 << 31) | 0o755)
    same(opened(chunks).getnames(), ["dir", "dir/file"])
    chunks, stat = box.get_archive("/bin/sh")
    same((stat["name"], stat["linkTarget"], stat["mode"] & (1 << 27)), ("sh", "/bin/busybox", 1 << 27))
    refused(errors.NotFound, lambda: box.get_archive("/nowhere"), 404, f"Could not find the file /nowhere in container {box.id}")
    refused(errors.NotFound, lambda: box.put_archive("/nowhere", tar_of("a", b"")), 404, f"Could not find the file /nowhere in container {box.id}")
    box.start()
    box.wait()
    same(box.logs(), b"content\n")
    changes = box.diff()
    for change in [{"Path": "/tmp", "Kind": 0}, {"Path": "/tmp/dir", "Kind": 1}, {"Path": "/tmp/dir/file", "Kind": 1}]:
        within(changes, change)
    within(opened(box.export()).getnames(), "bin/busybox", "tmp/dir/file")

    image = box.commit("ship/hold", "one", message="laden", author="me", changes=["ENV CARGO=tea", 'CMD ["cat", "/tmp/dir/file"]'])
    same(image.tags, ["ship/hold:one"])
    same((image.attrs["Author"], image.attrs["Comment"]), ("me", "laden"))
    within(image.attrs["Config"]["Env"], "CARGO=tea")
    same(client.containers.run("ship/hold:one", remove=True, network_mode="none"), b"content\n")
    history = image.history()
    same((history[0]["Tags"], history[0]["Comment"], history[1]["Tags"]), (["ship/hold:one"], "laden", ["busybox:latest"]))
    box.remove()

    same(image.tag("ship/hold", "two"), True)
    image.reload()
    same(sorted(image.tags), ["ship/hold:one", "ship/hold:two"])
    same([it.id for it in client.images.list("ship/hold")], [image.id])
    saved = b"".join(image.save(named="ship/hold:two"))
    within(opened([saved]).getnames(), "manifest.json", "oci-layout", "index.json", "repositories")
    client.images.remove("ship/hold:one")
    client.images.remove(image.id)
    refused(errors.ImageNotFound, image.reload, 404, f"No such image: {image.id}")
    loaded = client.images.load(saved)
    same([(it.id, it.tags) for it in loaded], [(image.id, ["ship/hold:two"])])
    client.images.remove("ship/hold:two")
    refused(errors.ImageNotFound, lambda: client.images.get("ship/hold:two"), 404, "No such image: ship/hold:two")

    answer = api.import_image_from_data(tar_of("hello", b"hello"), repository="brought", tag="in", changes=["CMD /hello"])
    within(answer, '"status":"sha256:')
    image = client.images.get("brought:in")
    same(image.attrs["Config"]["Cmd"], ["/bin/sh", "-c", "/hello"])
    # The name goes to another one, and this one is pruned.
    client.images.get("busybox").tag("brought", "in")
    same([it.id for it in client.images.list(filters={"dangling": True})], [image.id])
    pruned = client.images.prune()
    within(pruned["ImagesDeleted"], {"Deleted": image.id})
    same(client.images.prune(), {"ImagesDeleted": None, "SpaceReclaimed": 0})
    api.remove_image("brought:in")


def pulling():
    """pull from a registry, whole and line by line; what is not there."""
    name = os.environ["REGISTRY"] + "/busybox"
    lines = list(api.pull(name, tag="latest", stream=True, decode=True))
    same((lines[0]["status"], lines[0]["id"]), ("Pulling from busybox", "latest"))
    layers = {line["id"]: line["status"] for line in lines[1:] if "id" in line}
    assert layers and set(layers.values()) <= {"Pull complete", "Already exists"}, lines
    assert lines[-2]["status"].startswith("Digest: sha256:"), lines[-2]
    same(lines[-1]["status"], f"Status: Downloaded newer image for {name}:latest")
    image = client.images.pull(name, tag="latest")
    within(image.tags, f"{name}:latest")
    digest = image.attrs["RepoDigests"][0]
    assert digest.startswith(name + "@sha256:"), digest
    same([line["status"] for line in api.pull(name, stream=True, decode=True, tag="latest")][-1], f"Status: Image is up to date for {name}:latest")
    data = client.images.get_registry_data(name)
    same(data.id, digest.split("@")[1])
    same(data.has_platform("linux/amd64"), data.attrs["Platforms"][0]["architecture"] == "amd64")
    same(client.containers.run(digest, "echo pulled", remove=True, network_mode="none"), b"pulled\n")
    # An image that is not there is pulled by run.
    client.images.remove(f"{name}:latest", force=True)
    same(client.containers.run(name, "echo pulled", remove=True, network_mode="none"), b"pulled\n")
    client.images.remove(f"{name}:latest", force=True)
    refused(errors.NotFound, lambda: client.images.pull(os.environ["REGISTRY"] + "/no/such", tag="latest"), 404, "not found")
    refused(errors.ImageNotFound, lambda: api.create_container("no/such:image"), 404, "No such image: no/such:image")


def pushing():
    """push to a registry, whole and line by line; a tag that is not there."""
    name = os.environ["REGISTRY"] + "/python/pushed"
    client.images.get("busybox").tag(name, tag="v1")
    lines = list(api.push(name, tag="v1", stream=True, decode=True))
    same(lines[0]["status"], f"The push refers to repository [{name}]")
    layers = {line["id"]: line["status"] for line in lines[1:] if "id" in line}
    assert layers and set(layers.values()) <= {"Pushed", "Layer already exists"} | {s for s in layers.values() if s.startswith("Mounted from ")}, lines
    aux = lines[-1]["aux"]
    same(lines[-2]["status"], f"v1: digest: {aux['Digest']} size: {aux['Size']}")
    same(aux["Tag"], "v1")
    same(client.images.get_registry_data(f"{name}:v1").id, aux["Digest"])
    within(client.images.get(f"{name}:v1").attrs["RepoDigests"], f"{name}@{aux['Digest']}")
    text = client.images.push(name, tag="v1")
    assert "Layer already exists" in text, text
    client.images.push(name, auth_config={"username": "somebody", "password": "something"})
    last = list(client.images.push(name, tag="none", stream=True, decode=True))[-1]
    within(last["error"], "does not exist locally with the tag")
    same(last["errorDetail"]["message"], last["error"])
    refused(errors.APIError, lambda: client.images.push("Upper"), 400, "must be lowercase")


def speaking(version):
    return docker.APIClient(base_url=os.environ["DOCKER_HOST"], version=version)


def system():
    """Versions, info, df, events, stats, health, errors."""
    same(client.ping(), True)
    version = client.version()
    same((version["ApiVersion"], version["MinAPIVersion"], version["Os"]), ("1.51", "1.24", "linux"))
    same(version["Components"][0]["Name"], "Engine")
    # What is negotiated is the newer client's or the daemon's version, whichever is older.
    assert docker.utils.version_gte("1.51", api.api_version), api.api_version
    for spoken in ("1.24", "1.35", "1.43", "1.51"):
        old = speaking(spoken)
        same((old.ping(), old.containers(all=True)), (True, []))
        old.close()
    refused(errors.APIError, speaking("1.99").containers, 400, "client version 1.99 is too new. Maximum supported API version is 1.51")
    info = client.info()
    same((info["Containers"], info["Images"], info["OSType"], info["Swarm"]["LocalNodeState"]), (0, 1, "linux", "inactive"))
    df = client.df()
    same((len(df["Images"]), df["Containers"], df["Volumes"]), (1, [], []))
    for call in (client.nodes.list, client.services.list, lambda: client.swarm.reload()):
        refused(errors.APIError, call, 503, "This node is not a swarm manager.")
    same(client.plugins.list(), [])
    same(sorted(it.name for it in client.networks.list(names=["host", "none"])), ["host", "none"])
    refused(errors.NotFound, lambda: client.networks.get("nowhere"), 404, "network nowhere not found")

    start = time.time()
    box = sleeper(name="hull", labels={"sea": "red"})
    refused(errors.APIError, lambda: create(name="hull"), 409, f'Conflict. The container name "/hull" is already in use by container "{box.id}". You have to remove (or rename) that container to be able to reuse that name.')
    refused(errors.APIError, lambda: create(name="/"), 400, "Invalid container name (/), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    refused(errors.APIError, lambda: client.images.remove("busybox"), 409, "conflict: unable to remove repository reference \"busybox\" (must force) - container " + box.id[:12] + " is using its referenced image ")
    refused(errors.APIError, lambda: client.containers.list(filters={"colour": "red"}), 400, "invalid filter 'colour'")
    refused(errors.APIError, lambda: client.containers.run(IMAGE, "no-such-program", network_mode="none", name="broken"), 400, 'exec: "no-such-program": executable file not found in $PATH')
    client.containers.get("broken").remove()

    stats = box.stats(stream=False)
    same((stats["name"], stats["id"]), ("/hull", box.id))
    assert stats["precpu_stats"]["cpu_usage"]["total_usage"] > 0, stats["precpu_stats"]
    assert stats["cpu_stats"]["system_cpu_usage"] > stats["precpu_stats"]["system_cpu_usage"], stats
    once = api.stats(box.id, stream=False, one_shot=True)
    same(once["precpu_stats"]["cpu_usage"]["total_usage"], 0)
    stream = box.stats(stream=True, decode=True)
    first, second = next(stream), next(stream)
    same(second["preread"], first["read"])
    stream.close()

    events = client.events(decode=True, filters={"type": "container", "container": box.id}, since=int(start))
    box.stop()
    box.remove()
    seen = []
    for event in events:
        seen.append(event["Action"])
        same((event["status"], event["id"], event["from"]), (event["Action"], box.id, "busybox"))
        same({key: event["Actor"]["Attributes"][key] for key in ("image", "name", "sea")}, {"image": "busybox", "name": "hull", "sea": "red"})
        if event["Action"] == "die":
            same(event["Actor"]["Attributes"]["exitCode"], "5")
        if event["Action"] == "destroy":
            break
    events.close()
    same(seen[:2] + sorted(seen[2:]), ["create", "start", "destroy", "die", "kill", "stop"])
    past = client.events(since=int(start), until=int(time.time()) + 1, filters={"event": ["destroy"], "container": box.id}, decode=True)
    same([event["Actor"]["ID"] for event in past], [box.id])

    test = {"test": ["CMD-SHELL", "test -e /tmp/well"], "interval": 200_000_000, "timeout": 5_000_000_000, "retries": 1}
    box = sleeper(healthcheck=test)
    same(box.health, "unknown")
    state = lambda: client.containers.get(box.id).health
    eventually("it is unhealthy", lambda: state() == "unhealthy")
    box.exec_run("touch /tmp/well")
    eventually("it is healthy", lambda: state() == "healthy")
    box.reload()
    health = box.attrs["State"]["Health"]
    same((health["FailingStreak"], health["Log"][-1]["ExitCode"], box.attrs["Config"]["Healthcheck"]["Interval"]), (0, 0, 200_000_000))
    same([it.id for it in client.containers.list(filters={"health": "healthy"})], [box.id])
    box.remove(force=True)


def building():
    where = tempfile.mkdtemp()
    with open(where + "/Dockerfile", "w") as file:
        file.write("FROM busybox AS one\nARG who=nobody\nRUN echo hello $who | tee /said\nFROM one\nCOPY x /x\nLABEL a=b\n")
    with open(where + "/x", "w") as file:
        file.write("content")
    with open(where + "/.dockerignore", "w") as file:
        file.write("ignored\n")
    options = {"network_mode": "none", "rm": True, "buildargs": {"who": "me"}, "labels": {"c": "d"}}
    image, log = client.images.build(path=where, tag="harbour/made:1", extra_hosts={"sea": "10.1.2.3"}, **options)
    text = "".join(line.get("stream", "") for line in log)
    within(text, "Step 1/6 : FROM busybox AS one", "hello me", "Successfully tagged harbour/made:1")
    same((image.tags, image.labels), (["harbour/made:1"], {"a": "b", "c": "d"}))
    same(client.containers.run(image, "cat /said /x", remove=True, network_mode="none"), b"hello me\ncontent")
    again, log = client.images.build(path=where, extra_hosts={"sea": "10.1.2.3"}, **options)
    same(again.id, image.id)
    within("".join(line.get("stream", "") for line in log), "Using cache")
    api.prune_builds(all=True)
    options["cache_from"] = ["harbour/made:1"]
    cached, log = client.images.build(path=where, extra_hosts={"sea": "10.1.2.3"}, **options)
    same(cached.id, image.id)
    same("".join(line.get("stream", "") for line in log).count("Using cache"), 2)
    del options["cache_from"]
    one, _ = client.images.build(path=where, target="one", extra_hosts={"sea": "10.1.2.3"}, **options)
    assert one.id != image.id
    alone, _ = client.images.build(fileobj=io.BytesIO(b"FROM busybox\nENV a=b\n"), quiet=False)
    same("a=b" in alone.attrs["Config"]["Env"], True)
    try:
        client.images.build(fileobj=io.BytesIO(b"FROM busybox\nRUN exit 3\n"), network_mode="none")
        assert False, "it was built"
    except errors.BuildError as error:
        within(str(error), "returned a non-zero code: 3")
    pruned = api.prune_builds()
    assert pruned["SpaceReclaimed"] >= 0


if __name__ == "__main__":
    globals()[sys.argv[1]]()
