"""What users of Testcontainers for Python do, with Ryuk off: harbour.py [FOLDER OF A COMPOSE FILE].

The daemon is DOCKER_HOST's; the image busybox is there. Ports belong to a bridge, so containers here have none.
"""

import pathlib
import re
import sys
import tempfile
import time

from docker.types import Healthcheck
from testcontainers.compose import DockerCompose
from testcontainers.core.container import DockerContainer
from testcontainers.core.image import DockerImage
from testcontainers.core.wait_strategies import (
    ContainerStatusWaitStrategy,
    ExecWaitStrategy,
    FileExistsWaitStrategy,
    HealthcheckWaitStrategy,
    LogMessageWaitStrategy,
)

FOREVER = "touch /hold/ready; echo $RANK has $(cat /cargo) >&2; echo ready; while :; do sleep 0.1; done"


def same(got, want):
    assert got == want, f"\n got {got!r}\nwant {want!r}"


def box(line=FOREVER, **more):
    return DockerContainer("busybox").with_command(["sh", "-c", line]).with_kwargs(network_mode="none", **more)


def images():
    where = tempfile.TemporaryDirectory()
    pathlib.Path(where.name, "Dockerfile").write_text("FROM busybox\nARG what=tea\nENV CARGO=$what\nCOPY hold /hold\n")
    pathlib.Path(where.name, "hold").write_text("full\n")
    with DockerImage(path=where.name, tag="harbour/hold:1", buildargs={"what": "sugar"}) as image:
        same("Successfully tagged harbour/hold:1" in "".join(line.get("stream", "") for line in image.get_logs()), True)
        line = "cat /hold; echo $CARGO; echo ready; while :; do sleep 0.1; done"
        made = DockerContainer(str(image)).with_command(["sh", "-c", line]).with_kwargs(network_mode="none")
        with made.waiting_for(LogMessageWaitStrategy("ready").with_startup_timeout(250)) as it:
            same(it.get_logs()[0], b"full\nsugar\nready\n")


def containers():
    hold = tempfile.TemporaryDirectory()
    laden = (
        box()
        .with_env("RANK", "mate")
        .with_copy_into_container(b"tea\n", "/cargo", 0o600)
        .with_volume_mapping(hold.name, "/hold", "rw")
        .with_tmpfs_mount("/scratch", "size=1m")
        .waiting_for(LogMessageWaitStrategy(re.compile(r"^ready$", re.MULTILINE)).with_startup_timeout(250))
    )
    with laden as it:
        it.reload()
        same(it.get_logs(), (b"ready\n", b"mate has tea\n"))
        same((it.status, it.exec("cat /cargo").output), ("running", b"tea\n"))
        result = it.exec(["sh", "-c", "echo no >&2; exit 3"])
        same((result.exit_code, result.output), (3, b"no\n"))
        same(it.exec(["stat", "-c", "%a", "/cargo"]).output, b"600\n")
        same(it.exec(["stat", "-f", "-c", "%T", "/scratch"]).output, b"tmpfs\n")
        same(pathlib.Path(hold.name, "ready").exists(), True)
        it.copy_into_container(b"sugar\n", "/tmp/late")
        brought = pathlib.Path(hold.name, "brought")
        it.copy_from_container("/tmp/late", brought)
        same(brought.read_text(), "sugar\n")
        info = it.get_container_info()
        same((info.Name[0], info.State.Status, info.State.Running, info.Config.Image), ("/", "running", True, "busybox"))
        labels = it.get_wrapped_container().labels
        same((labels["org.testcontainers"], labels["org.testcontainers.lang"]), ("true", "python"))
        # Started by hand where it was configured with no strategy.
        FileExistsWaitStrategy(brought).wait_until_ready(it)
        ExecWaitStrategy(["test", "-e", "/cargo"]).wait_until_ready(it)
        ContainerStatusWaitStrategy().wait_until_ready(it)
        client = it.get_docker_client().client
    same(client.containers.list(all=True), [])
    hold.cleanup()

    well = Healthcheck(test=["CMD", "true"], interval=200_000_000, timeout=5_000_000_000)
    with box(FOREVER.replace("/hold", "/tmp"), healthcheck=well).waiting_for(HealthcheckWaitStrategy()) as it:
        same(it.get_wrapped_container().health, "healthy")

    short = box("echo bad >&2; exit 4")
    try:
        short.waiting_for(LogMessageWaitStrategy("never")).start()
        raise AssertionError("it waited for nothing")
    except RuntimeError as error:
        assert "(status: exited, exit code: 4)" in str(error), error
    same(short.wait(), 4)
    short.stop()


def compose(folder):
    with DockerCompose(folder, compose_file_name="compose.yaml", wait=True) as sea:
        found = sea.get_container("hold")
        same((found.Service, found.State, found.Health), ("hold", "running", "healthy"))
        same(sorted(it.Service for it in sea.get_containers()), ["crew", "hold"])
        out, err, code = sea.exec_in_container(["cat", "/hold/cargo"], "crew")
        same((out, code), ("tea\n", 0))
        # It runs before it has spoken.
        end = time.monotonic() + 250
        while "mate has tea" not in sea.get_logs("crew")[0]:
            assert time.monotonic() < end, sea.get_logs("crew")
            time.sleep(0.1)


if __name__ == "__main__":
    images()
    containers()
    if len(sys.argv) > 1:
        compose(sys.argv[1])
