"""How long the server's pages take with 5,000 studies: python tests/server/measure_pages.py FOLDER.

Wall time and the processor's time of server and client together, each the median of nine requests.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
sys.path.insert(0, str(Path(__file__).parents[1] / "support/server"))

from sqlalchemy import insert, select

from bleedmap.server.store.tables import identity, study
from server_studies import add_row
from server_web import Server, serve_web, small_settings

STUDIES, TIMES = 5000, 9
VERDICTS = ("bleed marked", "no verdict", "no bleed marked")


def fill(server: Server) -> None:
    """Add studies of all groups."""
    add_row(server.database, verdict="bleed marked", score=0.5)
    with server.database.write() as connection:
        first = dict(connection.execute(select(study)).mappings().one())
        who = dict(connection.execute(select(identity)).mappings().one())
        own = [{"id": f"{one:020}", "key": f"{one}", "uid": f"1.2.{one}"} for one in range(STUDIES - 1)]
        rows = [first | one | {"score": n / STUDIES, "verdict": VERDICTS[n % 3]} for n, one in enumerate(own)]
        connection.execute(insert(study), rows)
        connection.execute(insert(identity), [who | {"study": one["id"]} for one in own])


def measure(ask: Callable[[], object]) -> tuple[float, float]:
    """Median wall and processor time of a request, in ms."""
    walls, works = [], []
    for _ in range(TIMES):
        wall, work = time.perf_counter(), time.process_time()
        ask()
        walls.append(1000 * (time.perf_counter() - wall))
        works.append(1000 * (time.process_time() - work))
    return median(walls), median(works)


def main(folder: Path) -> None:
    """Print a line for each address."""
    with serve_web(small_settings(folder)) as server:
        fill(server)
        client = server.client("reader")
        for path in ("/api/studies", "/dicomweb/studies?limit=101", f"/dicomweb/studies?limit={STUDIES}"):
            wall, work = measure(lambda path=path: client.get(path).raise_for_status())  # type: ignore[misc]
            print(f"{path}: {wall:.0f} ms, {work:.0f} ms of the processor")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
