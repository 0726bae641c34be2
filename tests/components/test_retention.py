"""What nothing needs goes, whatever it is; what a release needs that stays is there, and makes the release again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from components import config, scores
from components.adapters.git_lfs import EMPTY
from components.artifacts import sha256
from components.ledger import Done, Key, perform, running_as
from components.mend import mend
from components.place import Place
from components.ports import Revision
from components.reach import reach
from components.records import Artifact, Commit, Record, Release, digest, parts, to_json
from components.releases import newest, releases, write
from components.retention import Leftovers, collect, look
from components.rollout_settings import RolloutRules
from components.rollouts import under_way
from components.sweeps import Entries, Folders
from components.workspace import Workspace, open_workspace
from tests.conftest import place_small
from tests.triton import Fitted, fit, manifest_of

PROFILE = """
state: .trilha/test
store: {{kind: git, path: .trilha/test/data.git}}
engine: local
retention: {{releases: {most}, nights: 1, days: 1}}
"""
RELEASES = (1, 2, 3, 4)


ROOT = Path(__file__).parents[2]
SOON = 60.0
"""Seconds from now: what is found then is found later than all else was made."""


class Made(Record):
    """What the steps of these tests return."""

    file: Artifact


def wrote(workspace: Workspace, key: str, content: str) -> Artifact:
    """A file that the step of that key wrote."""
    with running_as(key), workspace.output() as out:
        (out.folder / "file").write_text(content)
        return out.publish()["file"]


def entered(workspace: Workspace, key: str, output: Record, run: str = "") -> None:
    """The ledger's entry of a step."""
    step = Key(digest=key, step="tests:step", source={}, lock="", inputs={})
    workspace.ledger.write(Done(key=step, output=to_json(output), run=run, started="2026-01-01T00:00:00", seconds=1.0))


def committed(workspace: Workspace, branch: str, path: str, content: str) -> Commit:
    """A commit that puts one file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "file"
        file.write_text(content)
        made = workspace.store.commit(branch, {path: file}, message=path, metadata={}, key=digest([branch, content]))
    return Commit(id=made.id, branch=branch, tree=workspace.store.tree(made.id), tables={})


def noted(workspace: Workspace, key: str) -> None:
    """What the step of that key wrote down of the parts of a night that it had finished."""
    Place(f"{workspace.state}/scoring").write(f"{key}/00000.json", b"{}")


def released(workspace: Workspace, fitted: Fitted, name: str, rules: RolloutRules | None = None) -> Release:
    """A release as a lifecycle leaves it, without a server: data on `main`, files and entries of its steps."""
    commit = committed(workspace, "main", "small/parcels/data.parquet", f"data of {name}")
    made = manifest_of(workspace, fitted, "small", name)(0)
    notebook = wrote(workspace, digest(["notebook", name]), f"notebook of {name}")
    trial = made.candidate.trial.model_copy(update={"notebook": notebook})
    candidate = made.candidate.model_copy(update={"trial": trial})
    evidence = {"commit": commit, "candidate": candidate, "digest": digest(name)}
    release = write(
        workspace.store, "small", made.key, lambda number: made.model_copy(update={"number": number, **evidence}), rules
    )
    entered(workspace, made.key, release)
    noted(workspace, made.key)
    workspace.store.tag(f"release/small/{release.number}", commit.id)
    return release


def rubbish(workspace: Workspace) -> None:
    """What runs leave that came to nothing: a branch, trials that lost, a notebook that failed, a killed step's files."""
    committed(workspace, "main", "small/parcels/data.parquet", "data that no release was made of")
    committed(workspace, "main", "small/parcels/data.parquet", "data that main holds")
    workspace.store.branch("ingest/small/0123456789ab", "main")
    committed(workspace, "ingest/small/0123456789ab", "small/parcels/data.parquet", "data that was refused")
    lost = digest("a trial that lost")
    entered(workspace, lost, Made(file=wrote(workspace, lost, "a model")))
    wrote(workspace, digest("a step that was killed"), "a file")
    noted(workspace, digest("a night that was killed"))
    for path in (f"tensorboard/small/{lost[:12]}/events", "failed/small/0123456789ab/notebook.ipynb", "scratch/x/file"):
        file = workspace.home / path
        file.parent.mkdir(parents=True)
        file.write_text(path)


def use(workspace: Workspace, key: str) -> None:
    """Let a run that goes on have found an entry."""
    moment = time.time() + 2 * SOON
    os.utime(workspace.home / "ledger" / key[:2] / f"{key}.json", (moment, moment))


def receipts(workspace: Workspace, numbers: Sequence[int]) -> None:
    """Predictions that were written down."""
    store = workspace.store
    store.branch("predictions", list(store.log("main"))[-1].id)
    with tempfile.TemporaryDirectory() as folder:
        puts = {}
        for number in numbers:
            puts[f"small/2026-01-01/{number}.parquet"] = path = Path(folder) / str(number)
            pq.write_table(pa.table({"receipt": ["x"], "release": pa.array([number], pa.int32())}), path)
        store.commit("predictions", puts, message="requests", metadata={}, key="predictions")


def scored(workspace: Workspace, release: Release) -> Revision:
    """A night of predictions, one row of them."""
    store = workspace.store
    if scores.BRANCH not in store.branches():
        store.branch(scores.BRANCH, list(store.log("main"))[-1].id)
    said = {
        "project": "small",
        "release": str(release.number),
        "night": digest(release)[:32],
        "data": release.commit.id,
    }
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(pa.table({"receipt": [f"{said['night']}.0"]}), path := Path(folder) / "part")
        puts = {scores.path_of("small", 0): path}
        return store.commit(scores.BRANCH, puts, message="night", metadata=said, key=said["night"])


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A repository with releases 1 to 4 of the project `small`, and rubbish."""
    root = tmp_path_factory.mktemp("template")
    (root / "config" / "profiles").mkdir(parents=True)
    place_small(root)
    with opened(root, None) as workspace:
        for name in map(str, RELEASES):
            released(workspace, fit(tmp_path_factory.mktemp("fitted"), seed=int(name)), name)
        rubbish(workspace)
        yield root


@contextmanager
def opened(root: Path, most: int | None) -> Iterator[Workspace]:
    """The repository at `root`, whose profile keeps so many releases."""
    (root / "config" / "profiles" / "test.yaml").write_text(PROFILE.format(most=most or "null"))
    before = os.environ.get("TRILHA_ROOT")
    os.environ["TRILHA_ROOT"] = str(root)
    for cached in (config.root, open_workspace):
        cached.cache_clear()
    try:
        yield open_workspace("test")
    finally:
        os.environ.pop("TRILHA_ROOT")
        os.environ |= {"TRILHA_ROOT": before} if before else {}
        for cached in (config.root, open_workspace):
            cached.cache_clear()


@contextmanager
def copied(template: Path, most: int | None) -> Iterator[Workspace]:
    """A repository like that one."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        shutil.copytree(template, root, symlinks=True)
        with opened(root, most) as workspace:
            yield workspace


def now() -> float:
    """The time; what is written from here on is later by the file system's clock, too, which is coarser."""
    moment = time.time()
    time.sleep(0.02)
    return moment


def names(found: Leftovers) -> dict[str, set[str]]:
    """By store; but for what nothing leads to only once a branch and manifests are gone."""
    return {
        store: {one.name for one in ones if one.kind != "git" and not one.name.startswith("small/0")}
        for store, ones in found.found.items()
    }


def needed(workspace: Workspace) -> set[str]:
    """The folders of artifacts that the releases name."""
    known = parts(list(releases(workspace.store, "small")))
    return {
        part.path.partition("/")[0] for part in known if isinstance(part, Artifact) and workspace.artifacts.has(part)
    }


def objects(workspace: Workspace) -> dict[str, Path]:
    """What lies in the data store, by SHA-256."""
    return {path.name: path for path in (workspace.home / "data.git" / "lfs" / "objects").glob("*/*/*")}


def held(workspace: Workspace, refs: Sequence[str]) -> set[str]:
    return {entry.sha256 for ref in refs for entry in workspace.store.ls(ref)}


def folders(place: Path) -> set[str]:
    return {path.name for path in place.iterdir()} if place.is_dir() else set()


SOME = st.sets(st.sampled_from(RELEASES))


@example(most=1, tagged={1}, received=set(), nights=[], arms=set(), found=set(), rollout=False)
@example(most=1, tagged=set(), received={2}, nights=[2, 1], arms=set(), found=set(), rollout=True)
@example(most=2, tagged=set(), received=set(), nights=[1], arms={1, 3}, found={2}, rollout=False)
@given(
    most=st.none() | st.integers(1, 4),
    tagged=SOME,
    received=SOME,
    nights=st.lists(st.sampled_from(RELEASES), unique=True),
    arms=SOME.filter(lambda some: len(some) != 1),
    found=SOME,
    rollout=st.booleans(),
)
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_needed_goes_and_all_else_does(
    template: Path,
    fitted: Fitted,
    most: int | None,
    tagged: set[int],
    received: set[int],
    nights: list[int],
    arms: set[int],
    found: set[int],
    rollout: bool,  # noqa: FBT001  # drawn
) -> None:
    """Exactly the releases stay that the profile keeps or something needs, with all that makes them, and no other file.

    They may have a tag, a receipt, have answered for all rows last, be an arm, serve, be what a rollback goes to, or be found by a run that goes on.
    """
    with copied(template, most) as workspace:
        store = workspace.store
        known = {release.number: release for release in releases(store, "small")}
        for number in tagged:
            store.tag(f"paper/{number}", known[number].commit.id)
        if received:
            receipts(workspace, sorted(received))
        made = [scored(workspace, known[number]) for number in nights]
        if arms:
            settings_file = config.project_folder("small") / "project.yaml"
            chosen = f"selection: {{how: thompson, arms: {sorted(arms)}}}\n"
            settings_file.write_text(settings_file.read_text() + chosen)
        if rollout:
            released(workspace, fitted, "5", RolloutRules())
            assert under_way(store, "small")
        before = time.time() + SOON
        for number in found:
            use(workspace, known[number].key)
        known = {release.number: release for release in releases(store, "small")}

        stay = set(sorted(known)[-most:]) if most else set(known)
        # 4 serves, unless a roll-out is to show it; 3 is what a rollback goes to.
        stay |= {3, 4} | tagged | received | set(nights[-1:]) | arms | found | ({5} if rollout else set())
        foreseen = look(workspace, before)
        assert list(releases(store, "small")) == [known[number] for number in sorted(known, reverse=True)]
        gone = collect(workspace, before)
        assert {release.number for release in releases(store, "small")} == stay
        assert {name for name in store.tags() if name.startswith("release/")} == {f"release/small/{n}" for n in stay}
        assert names(gone) == names(foreseen)
        assert gone.size >= foreseen.size > 0
        assert not gone.unseen
        assert not look(workspace, before).found

        for release in releases(store, "small"):
            assert release == known[release.number]
            assert store.has(release.commit.id)
            assert store.local(release.commit.id, "small/parcels/data.parquet").read_text().startswith("data of")
            assert store.tags()[f"release/small/{release.number}"] == release.commit.id
            assert not mend(workspace, release)
            notebook = release.candidate.trial.notebook
            assert sha256(workspace.artifacts.local(notebook)) == notebook.sha256
        assert folders(workspace.home / "artifacts") == needed(workspace)
        assert folders(workspace.home / "scoring") == {known[number].key for number in stay}
        assert f"notes of {digest('a night that was killed')}" in names(gone)["scoring"]
        refs = [*store.branches(), *(known[number].commit.id for number in stay)]
        assert objects(workspace).keys() == held(workspace, refs) | {EMPTY}
        assert [store.has(night.id) for night in made] == [night in made[-1:] for night in made]
        assert store.branches("ingest/") == []
        assert not any(folders(workspace.home / name) for name in ("tensorboard/small", "failed/small", "scratch"))


def test_a_bundle_is_made_anew(template: Path) -> None:
    """Of a release that stays, the bundle's own files may be lost too: what they are made from is there."""
    with copied(template, 1) as workspace:
        collect(workspace, time.time() + SOON)
        release = newest(workspace.store, "small")
        for file in (*release.bundle.files.values(), release.bundle.golden):
            workspace.artifacts.local(file).unlink()
        assert mend(workspace, release)
        for file in (*release.bundle.files.values(), release.bundle.golden):
            assert sha256(workspace.artifacts.local(file)) == file.sha256


def test_what_is_young_stays(template: Path) -> None:
    """Within the days of grace nothing goes, whoever needs it."""
    with copied(template, 1) as workspace:
        assert not look(workspace, time.time() - 3_600).found
        assert not collect(workspace, time.time() - 3_600).found


# --- runs beside it ---------------------------------------------------------------------------------------------------


def step(profile: str, number: int) -> Made:
    """A step."""
    with open_workspace(profile).output() as out:
        (out.folder / "file").write_text(str(number))
        return Made(file=out.publish()["file"])


def done(workspace: Workspace, number: int) -> tuple[Made, bool]:
    """A step of a run: its record, and whether the ledger had it."""
    outcome = perform(
        step, {"profile": "test", "number": number}, ledger=workspace.ledger, lock=workspace.lock
    )  # fmt: skip
    assert isinstance(outcome.record, Made)
    return outcome.record, outcome.hit


def test_what_a_run_finds_meanwhile_stays(workspace: Workspace) -> None:
    """A run that finds an entry after it was looked at keeps it, and the files that it names."""
    made, _ = done(workspace, 1)
    before = now()
    entries, artifacts = sweeps(workspace, before)
    listed, left = entries.leftovers(), artifacts.leftovers()
    assert (len(listed), len(left)) == (1, 1)
    assert done(workspace, 1) == (made, True)
    assert entries.discard(listed) == []
    assert artifacts.discard(left) == []
    assert workspace.artifacts.has(made.file)
    assert not look(workspace, before).found


def test_what_a_run_makes_meanwhile_stays(workspace: Workspace) -> None:
    """A run that comes after the entry is gone does the step again; its files are not those that were to go."""
    made, _ = done(workspace, 1)
    before = now()
    entries, artifacts = sweeps(workspace, before)
    left = artifacts.leftovers()
    assert len(entries.discard(entries.leftovers())) == 1
    assert done(workspace, 1) == (made, False)
    assert artifacts.discard(left) == []
    assert workspace.artifacts.has(made.file)


def sweeps(workspace: Workspace, before: float) -> tuple[Entries, Folders]:
    from functools import partial

    from components.retention import _alone

    known, alone = reach(workspace, before), partial(_alone, workspace, before)
    place = Place(f"{workspace.state}/artifacts")
    return Entries(workspace, known, before, alone), Folders(
        place, "artifacts", 1, known.names.__contains__, before, alone
    )


def test_a_state_that_machines_share(small: Path, any_bucket: str) -> None:
    """On an object store entries and files go as on a disk, and what was made or found since stays."""
    profile = small / "config" / "profiles" / "test.yaml"
    profile.write_text(f"state: {any_bucket}/state\nstore: {{kind: git, path: '{small}/data.git'}}\nengine: local\n")
    open_workspace.cache_clear()
    workspace = open_workspace("test")
    made = [done(workspace, number)[0] for number in (1, 2)]
    assert not look(workspace, time.time() - SOON).found
    foreseen = look(workspace, time.time() + SOON)
    assert [len(foreseen.found[store]) for store in ("ledger", "artifacts")] == [2, 2]
    assert sum(one.size for one in foreseen.found["artifacts"]) == 2
    assert names(collect(workspace, time.time() + SOON)) == names(foreseen)
    assert not any(workspace.artifacts.has(one.file) for one in made)
    assert [done(workspace, 1), done(workspace, 1)[1]] == [(made[0], False), True]


# --- killed -----------------------------------------------------------------------------------------------------------

PROGRAM = """
import os, signal, sys, time
import pygit2
from components.adapters.git_store import GitStore
from components.adapters.git_sweep import GitSweep
from components.adapters.object_folder import ObjectFolder
from components.place import Place
from components.retention import collect
from components.workspace import open_workspace

left = int(sys.argv[1])

def counted(function, after):
    def call(*arguments, **named):
        global left
        left -= 1
        if left == 0 and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        found = function(*arguments, **named)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return found
    return call

for number, (owner, name) in enumerate((
    (GitStore, "commit"), (GitStore, "untag"), (GitSweep, "_prune"), (ObjectFolder, "discard"), (Place, "remove"),
)):
    setattr(owner, name, counted(getattr(owner, name), after=(number + left) % 2))
collect(open_workspace("test"), time.time() + 60)
"""


@pytest.mark.long
@pytest.mark.timeout(600)
def test_killed_at_any_time(template: Path, tmp_path: Path) -> None:
    """`kill -9` before or after each removal in turn: what stays is whole, and the next time takes the rest."""
    with opened(template, 1) as workspace:
        expected = {release.number: release for release in releases(workspace.store, "small")}
    killed = 0
    for point in range(1, 40):
        root = tmp_path / str(point)
        shutil.copytree(template, root, symlinks=True)
        with opened(root, 1) as workspace:
            done = subprocess.run(
                [sys.executable, "-c", PROGRAM, str(point)],
                env=os.environ | {"PYTHONPATH": str(ROOT), "TRILHA_ROOT": str(root)}, check=False, capture_output=True,
            )  # fmt: skip
            left = {release.number: release for release in releases(workspace.store, "small")}
            assert set(left) in ({1, 2, 3, 4}, {3, 4}), done.stderr
            for number in (3, 4):
                assert left[number] == expected[number]
                assert workspace.store.has(left[number].commit.id)
                assert not mend(workspace, left[number])
            assert workspace.store.has("main")
            for number in {1, 2} & set(left):  # or, if it is there still, all of it is
                assert not mend(workspace, left[number])
            collect(workspace, time.time() + SOON)
            assert {release.number for release in releases(workspace.store, "small")} == {3, 4}
            assert set(workspace.store.tags()) == {"release/small/3", "release/small/4"}
            assert not look(workspace, time.time() + SOON).found
        shutil.rmtree(root)
        if done.returncode == 0:
            break
        killed += 1
    assert done.returncode == 0, done.stderr
    assert killed > 10
