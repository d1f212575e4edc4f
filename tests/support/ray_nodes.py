"""A Ray cluster of several nodes on this machine, reached by loopback, whose nodes can be killed and replaced."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

from ray.cluster_utils import Cluster

ADDRESS = "127.0.0.2"  # loopback too; 127.0.0.1 itself Ray replaces by the machine's own address
STORE = 80 << 20
# A node that was killed is known to be dead after two seconds, not fifteen; actors have as much of the processor as
# other programs, the tests beside them among them, where Ray would leave them what those do not need.
_SETTINGS = {
    "health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 3,
    "worker_niceness": 0,
}  # fmt: skip


class Nodes:
    """The nodes of one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster, self._workers = cluster, []
        self.address = cluster.address

    def add(self, cpus: int = 1, **settings: Any) -> None:
        """Start a node and wait until it is there."""
        where = {"node_ip_address": ADDRESS, "object_store_memory": STORE}
        self._workers.append(self._cluster.add_node(num_cpus=cpus, **where, **settings))

    def kill(self, which: int = 0) -> None:
        """Kill a node, with all processes on it: the oldest but the head, or the newest by -1."""
        self._cluster.remove_node(self._workers.pop(which), allow_graceful=False)


@contextmanager
def run_nodes(*cpus: int) -> Iterator[Nodes]:
    """Yield a cluster: a head, and a node for each further number of CPUs."""
    head: dict[str, Any] = {
        "num_cpus": cpus[0], "node_ip_address": ADDRESS, "object_store_memory": STORE, "include_dashboard": False,
        "_system_config": _SETTINGS,
    }  # fmt: skip
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        nodes = Nodes(cluster)
        for one in cpus[1:]:
            nodes.add(one)
        yield nodes
    finally:
        cluster.shutdown()
