"""A release becomes visible as a whole, and a rollback goes to nothing that cannot serve, whatever is killed when."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from components.bundle import bundle_of
from components.errors import GateError, NotFoundError
from components.export import export
from components.ledger import running_as
from components.model_inputs import to_tensors
from components.project import Serve
from components.reconcile import ALIAS, reconcile, settled
from components.records import Artifact, Commit, Decision, Qualification, Release, Validation, digest
from components.register import register
from components.release import one_before, release, roll_back
from components.releases import newest, releases, write
from components.workspace import Workspace
from tests.components.test_register import tried
from tests.triton import FEATURES, Fitted, fit

PAGE = Artifact(path="page.html", sha256="", size=0)


class Killed(BaseException):
    """Stands for the end of the process: nobody catches it."""


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """A model that answers differently."""
    return fit(tmp_path_factory.mktemp("other"), seed=1)


def evidence(workspace: Workspace, fitted: Fitted, name: str, target: Any = "auto") -> dict[str, Any]:
    """What the steps before `release` hand to it: a real candidate, version and bundle, and verdicts on them."""
    candidate, prepared = tried(workspace, fitted, name)
    with running_as(digest(["before", name])):
        version = register("flights", "test", candidate, prepared)
        bundle = export("flights", "test", candidate, prepared, Serve(target=target, golden=16))
    first = next(workspace.store.log("main"))
    commit = Commit(id=first.id, branch="main", tree=prepared.tree, tables={})
    return {
        "commit": commit,
        "validation": Validation(tree=commit.tree, results=(), report=PAGE, docs=PAGE, offending=None),
        "prepared": prepared,
        "candidate": candidate,
        "decision": Decision(
            passed=True, reasons=(), metrics={}, baselines={}, difference=None, slices=(), plots=()
        ),
        "version": version,
        "bundle": bundle,
        "qualification": Qualification(
            digest=bundle.digest, rows=16, tolerance=1e-5, difference=0.0, budget_ms=50.0, p50_ms=2.0, p99_ms=4.0,
            server="",
        ),
    }  # fmt: skip


def released(workspace: Workspace, fitted: Fitted, name: str) -> Release:
    with running_as(digest(["release", name])):
        return release("flights", "test", **evidence(workspace, fitted, name))


def serving(workspace: Workspace) -> tuple[str | None, str | None]:
    """The version that the alias names, and the bundle that the project's stable name answers with."""
    (bundle,) = {bundle_of("flights", part) for part in workspace.server.parts("flights")}
    return workspace.tracker.pointed(name="flights", alias=ALIAS), bundle


def is_served(workspace: Workspace, wanted: Release, fitted: Fitted) -> None:
    """Alias, tag and server are where the manifest says, and the answers are the notebook's."""
    assert newest(workspace.store, "flights") == wanted
    assert serving(workspace) == (wanted.version.version, wanted.bundle.model)
    assert settled(workspace, wanted)
    rows = to_tensors(pq.read_table(fitted.test), FEATURES)
    answers = workspace.server.infer("flights", rows)["probability"].ravel()
    expected = pq.read_table(fitted.predictions)["probability"].to_numpy()
    assert abs(answers - expected).max() < 1e-6


def test_all_of_it_becomes_visible(registry: Workspace, fitted: Fitted, other: Fitted) -> None:
    """Manifest, alias, tag and served model: nothing before, all after; the next release moves them on."""
    made = evidence(registry, fitted, "one")
    assert list(releases(registry.store, "flights")) == []
    with running_as(digest("one")):
        one = release("flights", "test", **made)
    assert (one.number, one.restores) == (1, None)
    assert {name: getattr(one, name) for name in made} == made
    is_served(registry, one, fitted)
    two = released(registry, other, "two")
    assert (two.number, one.digest != two.digest) == (2, True)
    is_served(registry, two, other)


def test_killed_after_the_manifest(registry: Workspace, fitted: Fitted, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step that is done again finds the manifest and finishes what derives from it: one release."""
    with killed_before_reconcile(monkeypatch):
        released(registry, fitted, "one")
    assert not settled(registry, newest(registry.store, "flights"))
    one = released(registry, fitted, "one")
    assert list(releases(registry.store, "flights")) == [one]
    is_served(registry, one, fitted)


@contextmanager
def killed_before_reconcile(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Inside, the process ends when the manifest is written and nothing else is done."""

    def die(workspace: Workspace, project: str) -> Release:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("components.release.reconcile", die)
        with pytest.raises(Killed):
            yield


@pytest.fixture
def two(registry: Workspace, fitted: Fitted, other: Fitted) -> tuple[Release, Release]:
    """Two releases; the second one serves."""
    return released(registry, fitted, "one"), released(registry, other, "two")


def test_back_and_forth(registry: Workspace, fitted: Fitted, other: Fitted, two: tuple[Release, Release]) -> None:
    """Each way is a new release with an old one's contents; without a number it is the one before."""
    back = roll_back(registry, "flights", one_before(registry, "flights"))
    assert (back.number, back.restores, back.bundle) == (3, 1, two[0].bundle)
    is_served(registry, back, fitted)
    forth = roll_back(registry, "flights", one_before(registry, "flights"))
    assert (forth.number, forth.restores, forth.bundle) == (4, 2, two[1].bundle)
    is_served(registry, forth, other)


def test_killed_rollback_is_finished_by_the_same_again(
    registry: Workspace, fitted: Fitted, two: tuple[Release, Release], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also without a number: the one before is then what was asked for, not what it was asked to leave."""
    with killed_before_reconcile(monkeypatch):
        roll_back(registry, "flights", two[0])
    assert serving(registry) == (two[1].version.version, two[1].bundle.model)
    assert one_before(registry, "flights").restores == 1
    back = roll_back(registry, "flights", two[0])
    assert (back.number, back.restores) == (3, 1)
    is_served(registry, back, fitted)
    assert one_before(registry, "flights") == two[1]


def test_rollback_to_what_is_newest(registry: Workspace, other: Fitted, two: tuple[Release, Release]) -> None:
    """It writes nothing and sees that it serves."""
    registry.tracker.point(name="flights", alias=ALIAS, version=two[0].version.version)
    registry.server.unload("flights")
    assert roll_back(registry, "flights", two[1]) == two[1]
    is_served(registry, two[1], other)


def gone(path: Path) -> None:
    path.unlink()


def folder_gone(path: Path) -> None:
    shutil.rmtree(path.parents[2])


def damaged(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-9] + bytes(9))


LOSSES: list[tuple[Callable[[Path], None], str]] = [
    (gone, "golden"), (gone, "model"), (damaged, "golden"), (damaged, "model"), (folder_gone, "model"),
]  # fmt: skip


@pytest.mark.parametrize(("lose", "what"), LOSSES, ids=lambda value: getattr(value, "__name__", value))
def test_bundle_that_was_lost_is_made_anew(
    registry: Workspace, fitted: Fitted, two: tuple[Release, Release], lose: Callable[[Path], None], what: str
) -> None:
    """Files of the bundle that a rollback goes to are gone or damaged: they come back, byte by byte, and it serves."""
    bundle = two[0].bundle
    files = (*bundle.files.values(), bundle.golden)
    before = [registry.artifacts.local(file).read_bytes() for file in files]
    model = bundle.files[f"{bundle.model}-model/1/model.onnx"]
    lose(registry.artifacts.local(model if what == "model" else bundle.golden))
    back = roll_back(registry, "flights", two[0])
    assert (back.number, back.bundle) == (3, bundle)
    is_served(registry, back, fitted)
    assert [registry.artifacts.local(file).read_bytes() for file in files] == before


def test_bundle_that_cannot_be_made_anew(registry: Workspace, other: Fitted, two: tuple[Release, Release]) -> None:
    """Gone with what it was made from: nothing is written, what serves goes on, and the error says what else there is."""
    registry.artifacts.local(two[0].bundle.golden).unlink()
    registry.artifacts.local(two[0].candidate.trial.graphs.model).unlink()
    with pytest.raises(
        NotFoundError, match=r"golden.parquet is gone; so is .*model.onnx is gone.*rollback flights --to"
    ):
        roll_back(registry, "flights", two[0])
    is_served(registry, two[1], other)


def test_bundle_of_other_code(
    registry: Workspace, other: Fitted, two: tuple[Release, Release], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made anew by code that makes another one, it is not taken for the same; what was left of it is left there."""
    registry.artifacts.local(two[0].bundle.golden).unlink()
    monkeypatch.setattr("components.export.KEEP", "1/.other")
    with pytest.raises(NotFoundError, match=f"the code of {two[0].revision or 'another version'}"):
        roll_back(registry, "flights", two[0])
    is_served(registry, two[1], other)
    assert all(map(registry.artifacts.has, two[0].bundle.files.values()))


def test_bundle_that_the_server_refuses(registry: Workspace, fitted: Fitted) -> None:
    """A server that lost what the bundle needs: nothing is written, and what serves goes on."""
    key = digest("full")
    full = evidence(registry, fitted, "full", target="full")
    one = released(registry, fitted, "one")
    fields = dict(one) | full | {"number": 2, "key": key, "digest": key}
    write(registry.store, "flights", key, lambda number: Release(**fields))
    three = roll_back(registry, "flights", one)
    with pytest.raises(GateError, match="cannot serve target 'full'"):
        roll_back(
            registry, "flights", next(known for known in releases(registry.store, "flights") if known.number == 2)
        )
    is_served(registry, three, fitted)


def test_nothing_to_go_back_to(registry: Workspace, fitted: Fitted) -> None:
    """The only release stays, and it is said."""
    released(registry, fitted, "one")
    with pytest.raises(NotFoundError, match="no other release than 1 to go back to"):
        one_before(registry, "flights")
    assert reconcile(registry, "flights").number == 1
