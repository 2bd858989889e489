"""What users of Testcontainers for Python do with networks and ports, with Ryuk on; killed in the middle: reaper.py

The daemon is DOCKER_HOST's; the image busybox is there.
"""

import os
import signal
import time
import urllib.request

from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

SERVE = "mkdir /www && echo tea >/www/cargo && echo ready && exec httpd -f -p 8000 -h /www"
FETCH = "until wget -q -O /dev/null http://hold:8000/cargo; do sleep 0.1; done 2>/dev/null; wget -q -O- http://hold:8000/cargo && echo fetched && exec sleep 1000"


def box(line, network):
    return DockerContainer("busybox").with_command(["sh", "-c", line]).with_network(network)


network = Network().create()
hold = box(SERVE, network).with_network_aliases("hold").with_exposed_ports(8000)
hold.waiting_for(LogMessageWaitStrategy("ready").with_startup_timeout(250)).start()
url = f"http://{hold.get_container_host_ip()}:{hold.get_exposed_port(8000)}/cargo"
end = time.monotonic() + 250
while True:
    # It listens a moment after it has said that it will.
    try:
        assert urllib.request.urlopen(url, timeout=60).read() == b"tea\n"
        break
    except OSError:
        assert time.monotonic() < end, "nobody serves"
        time.sleep(0.05)
crew = box(FETCH, network).waiting_for(LogMessageWaitStrategy("fetched").with_startup_timeout(250)).start()
assert crew.get_logs()[0] == b"tea\nfetched\n"
print("in the middle", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
