"""Figures for the hospital's monitoring, on a port of their own; labels hold no identifier."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from bleedmap.server.config import BEAT_OLD_S, split_address
from bleedmap.server.place import free_bytes
from bleedmap.server.store import queue, studies
from bleedmap.server.store.tables import StudyState, delivery, event, job, process, study
from bleedmap.server.web.context import Web

_DAY_S = 86400.0
_QUANTILES = (0.5, 0.95)


class Figures(Collector):
    """What one look at database and disk tells."""

    def __init__(self, web: Web) -> None:
        self.web = web

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Read everything anew."""
        free = free_bytes(self.web.place.root)
        yield GaugeMetricFamily("bleedmap_disk_free_bytes", "free on the disk of the server's folder", free)
        sent = select(job.c.target, delivery.c.state, func.count()).join(delivery, delivery.c.job == job.c.id)
        with self.web.database.read() as connection:
            now = self.web.database.now(connection)
            states, jobs = studies.count_states(connection), queue.count_jobs(connection)
            oldest, times = queue.find_oldest_open(connection), _times(connection, now)
            objects = connection.execute(sent.group_by(job.c.target, delivery.c.state)).all()
            living = connection.execute(select(process).where(process.c.beat_at > now - BEAT_OLD_S)).mappings().all()
        waits = 0.0 if oldest is None else max(0.0, now - oldest)
        yield _many("bleedmap_studies", "versions of studies", ["state"], states)
        yield _many("bleedmap_queue_depth", "jobs that are not done", ["step", "state"], jobs)
        yield GaugeMetricFamily("bleedmap_oldest_waiting_seconds", "how long the oldest open job has waited", waits)
        yield _many("bleedmap_receive_to_result_seconds", "last slice to result, over a day", ["quantile"], times)
        held = {(row[0], row[1]): row[2] for row in objects}
        yield _many("bleedmap_deliveries", "objects by target", ["target", "result"], held)
        kinds = Counter(row["kind"] for row in living)
        yield _many("bleedmap_processes", "processes that live", ["kind"], kinds)
        open_now = sum(int(json.loads(row["detail"]).get("associations", 0)) for row in living)
        yield GaugeMetricFamily("bleedmap_associations", "open DICOM associations", open_now)


def _times(connection: Any, now: float) -> dict[str, float]:
    """Quantiles of the time from a study's last slice to its result."""
    took = event.c.at - study.c.last_seen
    same = (study.c.id == event.c.study) & (study.c.version == event.c.version)
    recent = (event.c.state == StudyState.SEGMENTED) & (event.c.at > now - _DAY_S)
    query = select(took).join(study, same).where(recent).order_by(took)
    times = [float(one) for one in connection.execute(query).scalars()]
    return {f"{share:g}": times[min(len(times) - 1, int(share * len(times)))] for share in _QUANTILES} if times else {}


def _many(name: str, text: str, labels: list[str], values: dict[Any, Any]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric([str(one) for one in (key if isinstance(key, tuple) else (key,))], value)
    return family


@contextmanager
def serve_metrics(web: Web) -> Iterator[None]:
    """Serve /metrics on the port of the settings, if they name one."""
    if not web.settings.web.metrics:
        yield
        return
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Figures(web))
    host, port = split_address(web.settings.web.metrics)
    server, thread = start_http_server(port, host, registry)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
