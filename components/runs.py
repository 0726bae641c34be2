"""One run of a DAG: what every engine does for a node, and the record of it under `<state>/runs/<run>/`.

Every process that does a node of the run, on whatever machine, writes that node's file and no other.
"""

from __future__ import annotations

import re
import secrets
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol

from components.disk import plainly
from components.errors import ConfigError, NotFoundError, TrilhaError, UnavailableError
from components.ledger import Key, perform, revive
from components.place import Place, Stat
from components.records import Record, Skipped, digest, to_json

if TYPE_CHECKING:
    from components.project import Policy
    from components.workspace import Workspace

Status = Literal["waiting", "running", "done", "found", "skipped", "failed"]
"""`running`: the ledger did not have it. `done`: it ran now. `found`: the ledger had it."""


class Header(Record):
    """What a run is of; `started` is UTC, ISO 8601."""

    id: str
    dag: str
    project: str
    profile: str
    engine: str
    started: str


class NodeState(Record):
    """One node of a run. `seconds` is what the step took when it was done, in this run or in the one that did it.

    `attempts` counts how often this run began it. `guards` are digests of the gates' records that it was given.
    `failure` is a `TrilhaError` as a dict, for another process to raise.
    """

    name: str
    step: str
    needs: tuple[str, ...]
    status: Status
    attempts: int = 0
    key: Key | None = None
    guards: tuple[str, ...] = ()
    started: str = ""
    seconds: float = 0.0
    output: Any = None
    lost: str = ""
    """What the step had made before and was not there any more, so that it was done again."""
    error: str = ""
    failure: dict[str, Any] | None = None


class Call(Protocol):
    """One node, as far as doing it needs to know; `flows.dag.Node` is one."""

    @property
    def name(self) -> str: ...

    @property
    def step(self) -> Callable[..., Any]: ...

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the nodes that come right before this one."""

    @property
    def policy(self) -> Policy: ...


Watcher = Callable[[NodeState], None]
"""Is told of each change of a node's state."""


class Run:
    """A run that is going on; `attempts` are those that other processes made, by node."""

    def __init__(
        self,
        workspace: Workspace,
        header: Header,
        watch: Watcher = lambda _: None,
        attempts: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self.header = header
        self.workspace = workspace
        self.watch = watch
        self.log = RunLog(workspace)
        self.log.begin(header)
        self._attempts = Counter(attempts)

    def announce(self, nodes: Iterable[Call]) -> None:
        """Write every node down as waiting, so that a run that dies shows what it did not come to."""
        for node in nodes:
            self.log.write(self.header.id, self._state(node, "waiting"))

    def apply(self, node: Call, arguments: Mapping[str, object], guards: Sequence[object]) -> Record:
        """Do one node through the ledger, once; every engine calls this for each attempt."""
        self._attempts[node.name] += 1
        try:
            with plainly(self.workspace.home):
                outcome = perform(
                    node.step,
                    arguments,
                    ledger=self.workspace.ledger,
                    lock=self.workspace.lock,
                    guards=guards,
                    cached=node.policy.cache,
                    run=self.header.id,
                    begin=lambda: self._note(self._state(node, "running")),
                )
        except Exception as error:
            self.fail(node, error)
            raise
        status: Status = "found" if outcome.hit else "done"
        if isinstance(outcome.record, Skipped):
            status = "skipped"
        self._note(
            self._state(
                node,
                status,
                key=outcome.key,
                guards=tuple(map(digest, guards)),
                started=outcome.started,
                seconds=outcome.seconds,
                output=to_json(outcome.record),
                lost=outcome.lost,
            )
        )
        return outcome.record

    def fail(self, node: Call, error: Exception) -> None:
        """Write down that a node failed; `apply` does it, and what calls it where that is not what failed."""
        if isinstance(error, TrilhaError):
            state = self._state(node, "failed", error=str(error), failure=error.as_dict())
        else:
            state = self._state(node, "failed", error=f"{type(error).__name__}: {error}")
        with suppress(OSError, UnavailableError):  # on a full disk; what failed first is what counts
            self.log.write(self.header.id, state)
        self.watch(state)

    def _state(self, node: Call, status: Status, **fields: Any) -> NodeState:
        step = f"{node.step.__module__}:{node.step.__qualname__}"
        attempts = self._attempts[node.name]
        return NodeState(name=node.name, step=step, needs=node.needs, status=status, attempts=attempts, **fields)

    def _note(self, state: NodeState) -> None:
        self.log.write(self.header.id, state)
        self.watch(state)


class RunLog:
    """The runs of a profile: a header and one small file a node, so that nodes on many machines can write at once."""

    def __init__(self, workspace: Workspace) -> None:
        self._place = Place(f"{workspace.state}/runs")

    def begin(self, header: Header) -> None:
        self._place.write(f"{header.id}/run.json", header.model_dump_json().encode())

    def write(self, run: str, state: NodeState) -> None:
        self._place.write(f"{run}/nodes/{state.name}.json", state.model_dump_json().encode())

    def header(self, run: str) -> Header:
        """The header of a run; `run` may be the beginning of an id, or `last`.

        Raises:
            NotFoundError: there is no such run, or more than one.
        """
        known = self.ids()
        found = known[:1] if run == "last" else [name for name in known if name.startswith(run)]
        if len(found) != 1:
            raise NotFoundError(
                f"{len(found) or 'no'} runs begin with {run!r}",
                accepted=", ".join(known[:5]) or "none yet",
                next_step="trilha runs" if known else "trilha run PROJECT",
            )
        content = self._place.read(f"{found[0]}/run.json")
        if content is None:  # killed between making its folder and its header
            raise NotFoundError(f"run {found[0]} has no header", next_step="trilha run PROJECT")
        return Header.model_validate_json(content)

    def ids(self) -> list[str]:
        """The ids of all runs, newest first."""
        return self._place.folders()[::-1]

    def used(self) -> dict[str, Stat]:
        """Every run: its id, its bytes, and when it was last written to."""
        found: dict[str, Stat] = {}
        for name, stat in self._place.files().items():
            run = name.partition("/")[0]
            found[run] = found.get(run, Stat(0, 0.0)) + stat
        return found

    def text(self, run: str) -> str:
        """All that is written down about a run."""
        return "\n".join((self._place.read(name) or b"").decode(errors="replace") for name in self._place.names(run))

    def before(self, header: Header) -> Iterator[Header]:
        """Earlier runs of the same DAG and project, newest first."""
        for name in self.ids():
            if name < header.id:
                with suppress(NotFoundError):  # it has no header
                    earlier = self.header(name)
                    if (earlier.dag, earlier.project) == (header.dag, header.project):
                        yield earlier

    def node(self, run: str, name: str) -> NodeState | None:
        """A node of a run, None where the run does not have it."""
        content = self._place.read(f"{run}/nodes/{name}.json")
        return NodeState.model_validate_json(content) if content else None

    def nodes(self, run: str) -> dict[str, NodeState]:
        """The nodes of a run by name."""
        contents = [self._place.read(name) for name in self._place.names(f"{run}/nodes")]
        states = [NodeState.model_validate_json(content) for content in contents if content]
        return {state.name: state for state in states}


def new_header(dag: str, project: str, profile: str, engine: str) -> Header:
    """A header with a fresh id, which sorts by time."""
    return header_of(_id(datetime.now(UTC), project, secrets.token_hex(2)), dag, project, profile, engine)


def header_of(run: str, dag: str, project: str, profile: str, engine: str) -> Header:
    """The header of the run of that id: the same wherever it is made.

    Raises:
        ConfigError: it is not an id of a run.
    """
    if not ID.fullmatch(run):
        raise ConfigError(f"run {run!r}", accepted="an id as `trilha runs` shows it", next_step="leave it empty")
    started = datetime.strptime(run[:19], "%Y%m%d-%H%M%S-%f").replace(tzinfo=UTC).isoformat(timespec="milliseconds")
    return Header(id=run, dag=dag, project=project, profile=profile, engine=engine, started=started)


def id_of(project: str, created: str, job: str) -> str:
    """The id of a run that an orchestrator began by itself, from when it did (ISO 8601) and its own id, hexadecimal.

    Raises:
        ConfigError: it says neither.
    """
    try:
        moment = datetime.fromisoformat(created).astimezone(UTC)
        return _id(moment, project, f"{uuid.UUID(job).hex[:8]}")
    except ValueError:
        raise ConfigError(
            f"the run has no id, and its time and job are {created!r} and {job!r}",
            accepted="Kubeflow Pipelines that fill in a run's time and id (2.16 and later), or the parameter `run`",
            next_step="trilha kubeflow submit PROJECT, which names the run",
        ) from None


def _id(moment: datetime, project: str, mark: str) -> str:
    return f"{moment:%Y%m%d-%H%M%S}-{moment.microsecond // 1000:03}-{project}-{mark}"


ID = re.compile(r"\d{8}-\d{6}-\d{3}-[a-z][a-z0-9_-]{0,62}-[0-9a-f]{4,8}")


def output_of(node: Call, state: NodeState) -> Record:
    """The record that a finished node of a run returned."""
    return revive(node.step, state.output)
