"""A project in a repository of its own: its configuration and sources, and stores and services that nobody has used."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from components import config
from components.errors import UnavailableError
from components.profile import GitStore, Profile, Services
from components.runs import RunLog
from components.source_adapters import open_source
from components.workspace import Workspace, open_workspace

COPIED = ("config", "notebooks", "requirements.lock")
"""What a run reads from its repository, beside the files of its sources."""

PATIENCE = 30.0
"""Seconds that a run that is interrupted gets to end in good order."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that came to an end: its id, and `done` or the kind of its error with its one line."""

    run: str
    outcome: str
    error: str = ""


class Fresh:
    """A repository for one run of a project, with the profile of that name but stores and services of its own."""

    def __init__(self, root: Path, project: str, profile: str) -> None:
        self._root, self._project = root, project
        for name in COPIED:
            source = config.root() / name
            if source.exists():
                (shutil.copytree if source.is_dir() else shutil.copy2)(source, root / name)
        _link_sources(project, profile, root)
        own = _own(config.load_profile(profile), Path(".trilha") / profile)
        written = own.model_dump(mode="json")
        (root / "config" / "profiles" / f"{profile}.yaml").write_text(yaml.safe_dump(written))
        self.workspace = Workspace(profile, _own(own, root / ".trilha" / profile))

    def run(self, engine: str, until: str | None) -> Ended:
        """Run the project on `engine` as its user would, in a process of its own; what it says goes to standard error.

        Raises:
            TrilhaError: nothing ran, for a service did not start, say.
        """
        return self._ended("run", engine, *(["--until", until] if until else []))

    def score(self, engine: str) -> Ended:
        """Score the project on `engine`, with a release that plain threads make first.

        Raises:
            TrilhaError: as `run`, or there is no release.
        """
        made = self.run("local", None)
        if made.outcome != "done":
            raise UnavailableError(f"no release of {self._project} to score with: {made.error}")
        return self._ended("score", engine)

    def _ended(self, command: str, engine: str, *more: str) -> Ended:
        before = RunLog(self.workspace).ids()
        arguments = [command, self._project, "--profile", self.workspace.name, "--engine", engine, "--json"]
        code, output = self._trilha(*arguments, *more)
        said = _parsed(output)
        runs = RunLog(self.workspace).ids()
        if runs == before:
            raise UnavailableError(
                f"engine {engine} began no run: {said.get('problem', f'exit code {code}')}",
                accepted=said.get("accepted", ""),
                next_step=said.get("next", ""),
                details=said.get("details", ""),
            )
        if code == 0:
            return Ended(runs[0], "done")
        return Ended(runs[0], said.get("error", f"exit code {code}"), said.get("problem", ""))

    def _trilha(self, *arguments: str) -> tuple[int, str]:
        """The command in this repository; it ends with this process' interest in it."""
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", "from flows.cli import main; main()", *arguments],
            env=os.environ | {"TRILHA_ROOT": str(self._root)},
            cwd=self._root,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a terminal's Ctrl-C comes to us, and we pass it on once
        )
        try:
            output, _ = process.communicate()
        except BaseException:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            raise
        return process.returncode, output


@contextmanager
def fresh(project: str, profile: str) -> Iterator[Fresh]:
    """A repository for one run of `project`; its services are stopped and all of it is deleted, however it ends.

    Raises:
        TrilhaError: a source of the project is not there.
    """
    from flows.services import down

    root = Path(tempfile.mkdtemp(prefix="trilha-fresh-")).resolve()
    try:
        made = Fresh(root, project, profile)
        try:
            yield made
        finally:
            down(made.workspace)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _own(profile: Profile, state: Path) -> Profile:
    """`profile` with stores below `state`, services of its own, and containers here in place of a cluster."""
    return profile.model_copy(
        update={
            "state": str(state),
            "store": GitStore(path=str(state / "data.git")),
            "services": Services(),
            "kubeflow": profile.kubeflow.model_copy(update={"host": None}),
        }
    )


def _link_sources(project: str, profile: str, root: Path) -> None:
    """Have the project's own files under `root` too, by hard links: a container would not see where others lead."""
    for table, source in config.load_project(project).file.sources.items():
        for name in open_source(open_workspace(profile), project, table, source).here():
            here, there = root / name, config.root() / name
            if PurePosixPath(name).is_absolute() or here.exists():
                continue
            here.parent.mkdir(parents=True, exist_ok=True)
            if there.is_dir():
                shutil.copytree(there, here, copy_function=_link)
            else:
                _link(str(there), str(here))


def _link(there: str, here: str) -> None:
    try:
        Path(here).hardlink_to(there)
    except OSError:  # another file system
        shutil.copy2(there, here)


def _parsed(output: str) -> dict[str, Any]:
    """What the command printed for machines; nothing where it died."""
    try:
        said = json.loads(output)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
