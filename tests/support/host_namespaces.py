"""Hosts that are network namespaces of this machine, each with an address of its own on one bridge; needs root."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

NETWORK = "10.213.7"


def _ip(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=False)


def why_none() -> str:
    """Why there can be none here; '' where there can."""
    if os.geteuid() != 0:
        return "needs root"
    name = f"try-{uuid4().hex[:8]}"
    made = _ip("netns", "add", name)
    if made.returncode == 0:
        _ip("netns", "del", name)
    return made.stderr.strip() if made.returncode else ""


@contextmanager
def run_hosts(count: int) -> Iterator[list[tuple[list[str], str]]]:
    """Yield, for each host, what to put before a command to run it there, and its address."""
    tag = uuid4().hex[:6]
    hub, names = f"hub-{tag}", [f"host{number}-{tag}" for number in range(count)]
    try:
        _ip("netns", "add", hub)
        _ip("-n", hub, "link", "add", "bridge", "type", "bridge")
        _ip("-n", hub, "link", "set", "bridge", "up")
        hosts = []
        for number, name in enumerate(names):
            _ip("netns", "add", name)
            _ip("-n", hub, "link", "add", f"port{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("-n", hub, "link", "set", f"port{number}", "master", "bridge", "up")
            address = f"{NETWORK}.{number + 1}"
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            up = _ip("-n", name, "link", "set", "lo", "up")
            assert up.returncode == 0, up.stderr
            hosts.append((["ip", "netns", "exec", name], address))
        yield hosts
    finally:
        for name in (*names, hub):
            _ip("netns", "del", name)
