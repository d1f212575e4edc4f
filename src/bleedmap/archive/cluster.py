"""Executor of tasks on a Ray cluster: actors that load a network once, with tasks in flight; nodes may come and go.

A task is done at least once: an actor whose process ends is started again by Ray with its tasks, and those of a node
that is gone are given to others. That each has one result is the ledger's matter, which all actors share.
"""

import logging
import os
import platform
import re
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import ray
from ray.exceptions import ActorUnschedulableError, RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from bleedmap import __version__
from bleedmap.archive.workers import Share
from bleedmap.arrays import ignore
from bleedmap.errors import BleedmapError, SettingsError
from bleedmap.inference.backends import available_threads

_LOOK_S = 5.0  # between two looks for new nodes
_ANSWER_S = 5.0  # for the head to answer
_STORE_BYTES = 80 << 20  # the least that Ray takes; tasks and results are small
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
# Nothing is reported to Ray's makers.
_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0"}
_LOST = object()  # in place of a result
Do = Callable[[Any], Any]  # does a task, in an actor; None is no task


@contextmanager
def connect(address: str) -> Iterator[None]:
    """Be a driver of a Ray cluster while inside.

    Args:
        address: 'host:port' of its head, 'auto' for the cluster that this machine belongs to, or 'local' for one that
            is started here and ends with this process; then `guard_local_cluster` comes first.

    Raises:
        SettingsError: no cluster there, or one with another Ray or Python.
    """
    _refuse_silence(address)
    os.environ.update(_ENVIRONMENT)
    here: dict[str, Any] = {}
    if address == "local":
        here = {"num_cpus": available_threads(), "object_store_memory": _STORE_BYTES, "include_dashboard": False}
        # Reached by loopback; 127.0.0.1 itself Ray would replace by the machine's address. Its ports are open on every
        # interface all the same: Ray binds to loopback for 127.0.0.1 alone.
        if platform.system() == "Linux":
            here["_node_ip_address"] = "127.0.0.2"
    answers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.CRITICAL, **here)
    except (OSError, ValueError, RuntimeError, RayError, SystemExit) as error:
        raise _explain(address, error) from error
    finally:
        for number, answer in answers.items():  # Ray takes SIGTERM for itself
            signal.signal(number, answer)
    try:
        yield
    finally:
        ray.shutdown()


def _refuse_silence(address: str) -> None:
    """Refuse an address that nothing answers at: Ray itself would try for minutes."""
    if address in ("auto", "local"):
        return
    found = re.fullmatch(r"\[?([^/\[\]]+)\]?:(\d{1,5})", address)
    if found is None:
        raise _no_cluster(address, "no address of a head")
    host = ray.util.get_node_ip_address() if found[1] in _LOOPBACK else found[1]  # as Ray does
    try:
        socket.create_connection((host, int(found[2])), _ANSWER_S).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, f"nothing answers at {host}:{found[2]} ({error})") from error


def _no_cluster(address: str, found: str) -> SettingsError:
    return SettingsError(
        f"--ray {address}", found=found, needed="a Ray cluster that this machine is a node of",
        remedy="give host:port of its head, after `ray start --address=HOST:PORT` on this machine; or auto; or local, "
        "for one on this machine alone",
    )  # fmt: skip


def _explain(address: str, error: BaseException) -> SettingsError:
    words, cause = [], error
    while cause is not None:
        words.append(" ".join(str(cause).split()))
        cause = cause.__cause__  # type: ignore[assignment]
    mismatch = next((one for one in words if "ersion mismatch" in one), None)
    if mismatch is None:
        return _no_cluster(address, words[0] if isinstance(error, Exception) else "the head does not answer")
    return SettingsError(
        f"--ray {address}", found=mismatch, needed="the same Ray and Python on all nodes and here",
        remedy=f"give all Python {platform.python_version()} and: pip install 'bleedmap[ray]' ray=={ray.__version__}",
    )  # fmt: skip


def has_gpus() -> bool:
    """Say whether a node of the cluster has a GPU."""
    return bool(ray.cluster_resources().get("GPU"))


@dataclass(eq=False)
class _Hand:
    """One actor."""

    number: int
    actor: Any
    node: dict[str, Any]
    is_ready: bool = False
    flying: int = 0


class Cluster:
    """The cluster that this process is connected to, for tasks of one folder."""

    def __init__(self, state: Path, needs: Iterable[Path], warn: Callable[[str], None] = ignore) -> None:
        """Say what all nodes must see.

        Args:
            state: a folder that all nodes share and may write.
            needs: other files and folders that they read. Where one is given relative to the working directory, all
                nodes must have that too.
            warn: called with a sentence about a node.
        """
        self._state, self._needs, self._warn = state, tuple(needs), warn

    def run(
        self, load: Callable[[], Do], tasks: Iterable[Any], on_result: Callable[[int, Any], None], share: Share
    ) -> None:
        """Do all tasks, each in one of the actors; leaving by an error or Ctrl-C ends them.

        Args:
            load: called in each actor once, gives the function that does a task; can be sent to another machine.
            tasks: taken one by one, as actors have room: they need not fit into memory.
            on_result: called with the actor's number and the result, which is not kept.
            share: of a node for each actor.

        Raises:
            SettingsError: a node that was there at the start lacks a folder, or has another bleedmap; no node has room.
            BleedmapError: what a task raised.
        """
        self._state.mkdir(parents=True, exist_ok=True)
        # A name that no other folder has, by which a node's folder is known to be this one; it stays.
        token = min(self._state.glob("ray-*"), default=self._state / f"ray-{uuid4().hex}")
        token.touch()
        needs = [one.resolve() for one in (token, *self._needs)]
        if not all(one.is_absolute() for one in (self._state, *self._needs)):
            needs.append(Path.cwd())
        run = _Run(share, (__version__, str(Path.cwd()), [str(one) for one in needs], [ray.put(load)]), self._warn)
        try:
            run.run(iter(tasks), on_result)
        finally:
            run.end()


class _Run:
    def __init__(self, share: Share, given: tuple[Any, ...], warn: Callable[[str], None]) -> None:
        self._share, self._given, self._warn = share, given, warn
        self._actor = ray.remote(_make_actor())
        self._seen: dict[str, bool] = {}  # id of a node -> whether it was there at the start
        self._refused: set[str] = set()
        self._hands: list[_Hand] = []
        self._flying: dict[Any, tuple[_Hand, Any]] = {}
        self._count = 0

    def run(self, tasks: Iterator[Any], on_result: Callable[[int, Any], None]) -> None:
        again: deque[Any] = deque()  # tasks of nodes that are gone
        ahead, look_at, told = next(tasks, None), 0.0, False
        while again or ahead is not None or any(task is not None for _, task in self._flying.values()):
            if time.monotonic() >= look_at:
                self._start_on_new_nodes()
                look_at = time.monotonic() + _LOOK_S
            for hand in self._hands:
                while hand.is_ready and hand.flying < self._share.ahead and (again or ahead is not None):
                    if again:
                        self._send(hand, again.popleft())
                    else:
                        self._send(hand, ahead)
                        ahead = next(tasks, None)
            if not self._flying:
                if not told:
                    self._warn("no node with room is left: waiting for one")
                told = True
                time.sleep(1)
                continue
            told = False
            for ref in ray.wait(list(self._flying), timeout=_LOOK_S)[0]:
                hand, task = self._flying.pop(ref)
                hand.flying -= 1
                result = self._take(ref, hand, task, again)
                if task is not None and result is not _LOST:
                    on_result(hand.number, result)

    def _start_on_new_nodes(self) -> None:
        """Start actors on nodes that were not there before, one on each node in turn."""
        first, most = not self._seen, self._share.most
        new = [one for one in ray.nodes() if one["Alive"] and one["NodeID"] not in self._seen]
        self._seen |= {node["NodeID"]: first for node in new}
        room = {node["NodeID"]: self._share.count(node["Resources"]) for node in new}
        for turn in range(max(room.values(), default=0)):
            for node in new:
                if turn < room[node["NodeID"]] and (most is None or len(self._hands) < most):
                    self._start(node)
        if first and not self._hands:
            raise SettingsError(
                "--ray", found=f"no node has {self._share.describe()}", needed="a node with as much",
                remedy="give fewer --threads, or start a larger node",
            )  # fmt: skip

    def _start(self, node: dict[str, Any]) -> None:
        options = self._actor.options(
            num_cpus=self._share.cpus, num_gpus=self._share.gpus, memory=self._share.memory, max_restarts=-1,
            max_task_retries=-1,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        )  # fmt: skip
        hand = _Hand(self._count, options.remote(*self._given), node)
        self._count += 1
        self._hands.append(hand)
        self._flying[hand.actor.start.remote()] = hand, None
        hand.flying = 1

    def _send(self, hand: _Hand, task: Any) -> None:
        hand.flying += 1
        self._flying[hand.actor.do.remote(task)] = hand, task

    def _take(self, ref: Any, hand: _Hand, task: Any, again: deque[Any]) -> Any:
        """Take a result, or the end of an actor, whose task another one will do."""
        try:
            result = ray.get(ref)
        except (RayActorError, ActorUnschedulableError):
            self._drop(hand)
            if task is not None:
                again.append(task)
            return _LOST
        except RayTaskError as error:
            cause = error.cause
            if not isinstance(cause, BleedmapError):
                raise
            if task is not None:
                raise cause from error
            result = (f"{cause.subject}: {cause.found}", cause.needed, cause.remedy)
        if task is None:
            if result is None:
                hand.is_ready = True
            else:
                self._refuse(hand, *result)
        return result

    def _refuse(self, hand: _Hand, found: str, needed: str, remedy: str) -> None:
        """Stop where a node that was there at the start cannot work; do without one that came later."""
        names = dict.fromkeys(hand.node[key] for key in ("NodeManagerHostname", "NodeName", "NodeManagerAddress"))
        error = SettingsError(f"node {' '.join(names)}", found=found, needed=needed, remedy=remedy)
        number = hand.node["NodeID"]
        if self._seen[number]:
            raise error
        if number not in self._refused:
            self._refused.add(number)
            self._warn(f"not used: {error.subject}: {found} (needed: {needed}; remedy: {remedy})")
        self._drop(hand)

    def _drop(self, hand: _Hand) -> None:
        if hand in self._hands:
            self._hands.remove(hand)
        hand.is_ready = False
        with suppress(RayError, ValueError):
            ray.kill(hand.actor)

    def end(self) -> None:
        for hand in list(self._hands):
            self._drop(hand)


def _make_actor() -> type:
    """Make the actors' class: sent whole and not by name, so that it can answer where there is no bleedmap."""

    class Actor:
        def __init__(self, version: str, folder: str, needs: list[str], load: list[Any]) -> None:
            self.version, self.folder, self.needs, self.load = version, folder, needs, load
            self.work: Do | None = None

        def start(self) -> tuple[str, str, str] | None:
            """Load; or say what was found, is needed and can be done where this node cannot work."""
            try:
                from bleedmap import __version__ as version  # noqa: PLC0415 - where there may be none
            except ImportError:
                version = "none"
            remedy = f"pip install 'bleedmap[ray]=={self.version}' in the Python of `ray start` there"
            if version != self.version:
                return f"bleedmap {version}", f"bleedmap {self.version}, as where the command was given", remedy
            for one in self.needs:
                if not Path(one).exists():
                    words = "a folder that all nodes share, under the same path, as by NFS"
                    return f"does not see {one}", words, "mount it there; or take `bleedmap batch --shard`"
            with suppress(OSError):
                os.chdir(self.folder)
            if self.work is None:
                self.work = ray.get(self.load[0])()  # a reference inside a list is not followed earlier
            return None

        def do(self, task: Any) -> Any:
            if self.work is None:  # started again by Ray
                wrong = self.start()
                if wrong:
                    raise OSError(wrong[0])
            assert self.work is not None
            return self.work(task)

    return Actor
