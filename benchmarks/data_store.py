"""What does the git data store cost: a commit of a big file, of many small ones, a look whether all is there, a merge?

The limit of a commit is a loop that copies the files, takes their SHA-256 on the way and forces them to the disk; peers
are `git add` and `git commit` with Git LFS and, where `TRILHA_DVC` names its program, with DVC: they force nothing. All
on the same disk.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pygit2
from pygit2.enums import FileMode
from report import Row, Sample, interleave, measure, median, ratio, report

from components.adapters.git_store import GitStore

BIG, SMALL, MANY, MORE = 512 << 20, 4 << 10, 1000, 10_000
FOLDERS, CHANGES = 1000, 100

GIT_LFS = """
set -e
cd "$1" && rm -rf .git && git init -q && git lfs install --local >/dev/null
git add . && git -c user.name=x -c user.email=x commit -q -m m
"""

DVC = """
set -e
cd "$1" && rm -rf .git .dvc .dvcignore files.dvc && git init -q && "$TRILHA_DVC" init -q && "$TRILHA_DVC" add -q files
git add . && git -c user.name=x -c user.email=x commit -q -m m
"""


def timed(call: Callable[[], object]) -> Sample:
    """One call inside this process."""
    clock, cpu = time.perf_counter(), time.process_time()
    call()
    return Sample(time.perf_counter() - clock, time.process_time() - cpu, 0.0)


def committed(path: Path, files: list[Path]) -> GitStore:
    """A store at `path` with one commit of `files`."""
    store = GitStore(path)
    puts = {f"files/{file.name}": file for file in files}
    store.commit("main", puts, message="m", metadata={}, key="k")
    return store


def copied(path: Path, files: list[Path]) -> None:
    """The limit."""
    path.mkdir()
    for file in files:
        digest = hashlib.sha256()
        with file.open("rb") as old, (path / file.name).open("wb") as new:
            while chunk := old.read(1 << 20):
                digest.update(chunk)
                new.write(chunk)
    for file in path.iterdir():
        with file.open("rb") as new:
            os.fsync(new.fileno())


def commit_row(where: Path, question: str, count: int, size: int, goal: float) -> Row:
    """A commit of `count` files of `size` bytes against the limit and the peer."""
    tree, target = where / f"{count}-files", where / "target"
    tree.mkdir()
    files = [tree / f"{number:06}" for number in range(count)]
    for file in files:
        file.write_bytes(os.urandom(size))
    (tree / ".gitattributes").write_text("* filter=lfs diff=lfs merge=lfs -text\n.gitattributes !filter !diff !merge\n")

    def fresh(call: Callable[[Path, list[Path]], object]) -> Callable[[], Sample]:
        def run() -> Sample:
            shutil.rmtree(target, ignore_errors=True)
            return timed(lambda: call(target, files))

        return run

    git = ["sh", "-c", GIT_LFS, "git-lfs", str(tree)]
    samples = interleave({"ours": fresh(committed), "bare": fresh(copied), "git lfs": lambda: measure(git)})
    share = ratio(samples["ours"], samples["bare"])
    bare, lfs = median(samples["bare"]), median(samples["git lfs"])
    return Row(
        question=question,
        ours=f"{median(samples['ours']):.2f} s",
        limit=f"hash, copy, sync {bare:.2f} s; `git lfs` {lfs:.2f} s",
        ratio=share,
        goal=f"{goal:g} times hash, copy, sync",
        met=share <= goal,
    )


def dvc_row(where: Path) -> Row:
    """A commit of ten thousand small files against DVC's: it wants them in a folder, which it then tracks as one."""
    tree, target = where / "dvc", where / "target"
    (tree / "files").mkdir(parents=True)
    files = [tree / "files" / f"{number:06}" for number in range(MORE)]
    for file in files:
        file.write_bytes(os.urandom(SMALL))

    def ours() -> Sample:
        shutil.rmtree(target, ignore_errors=True)
        return timed(lambda: committed(target, files))

    def bare() -> Sample:
        shutil.rmtree(target, ignore_errors=True)
        return timed(lambda: copied(target, files))

    dvc = ["sh", "-c", DVC, "dvc", str(tree)]
    samples = interleave({"ours": ours, "bare": bare, "DVC": lambda: measure(dvc)}, 2)
    share, least = ratio(samples["ours"], samples["DVC"]), median(samples["bare"])
    return Row(
        question=f"commit of {MORE:,} files of {SMALL >> 10} KiB against DVC",
        ours=f"{median(samples['ours']):.2f} s",
        limit=f"`dvc add`, `git commit` {median(samples['DVC']):.2f} s; hash, copy, sync {least:.2f} s",
        ratio=share,
        goal="0.10",
        met=share <= 0.1,
        note="ours forces them to the disk, DVC does not",
    )


def has_row(where: Path) -> Row:
    """As a run that changes nothing asks: of a store that was just opened."""
    files = [where / f"{MANY}-files" / f"{number:06}" for number in range(MANY)]
    path = where / "has.git"
    store = committed(path, files)
    objects = [store.local("main", f"files/{file.name}") for file in files]
    runs = {
        "ours": lambda: timed(lambda: GitStore(path).has("main")),
        "stat": lambda: timed(lambda: [file.stat() for file in objects]),
    }
    samples = interleave(runs, 15)
    took = median(samples["ours"]) * 1e3
    return Row(
        question=f"is a commit of {MANY:,} objects all there",
        ours=f"{took:.1f} ms",
        limit=f"`stat` of each {median(samples['stat']) * 1e3:.1f} ms",
        ratio=ratio(samples["ours"], samples["stat"]),
        goal="50 ms",
        met=took <= 50,
    )


def merge_row(where: Path) -> Row:
    """A million paths in a thousand folders, all pointers to one object; each side has changed a hundred of them.

    Half of those folders were changed by both sides.
    """
    file = where / "object"
    file.write_text("an object")
    store = committed(where / "merge.git", [file])
    repo = pygit2.Repository(str(where / "merge.git"))
    head = repo.revparse_single("main").peel(pygit2.Commit)
    blob, root = head.tree["files/object"].id, repo.TreeBuilder(head.tree)
    for number in range(FOLDERS):
        inner = repo.TreeBuilder()
        for name in [*range(FOLDERS - 1), f"x{number}"]:  # no two folders are the same
            inner.insert(f"{name:0>6}", blob, FileMode.BLOB)
        root.insert(f"{number:04}", inner.write(), FileMode.TREE)
    who = pygit2.Signature("x", "x")
    repo.create_commit("refs/heads/main", who, who, "A million", root.write(), [head.id])
    for side, first in (("left", 0), ("right", CHANGES // 2)):
        store.branch(side, "main")
        puts = {f"{number:04}/{side}": file for number in range(first, first + CHANGES)}
        store.commit(side, puts, message="m", metadata={}, key=side)
    round_ = iter(range(1000))

    def ours() -> Sample:
        into = f"into-{next(round_)}"
        store.branch(into, "right")
        return timed(lambda: store.merge("left", into, message="m", metadata={}, key="m"))

    git = ["git", "-C", str(where / "merge.git"), "merge-tree", "--write-tree", "right", "left"]
    samples = interleave({"ours": ours, "git": lambda: measure(git)}, 9)
    took = median(samples["ours"]) * 1e3
    return Row(
        question=f"merge of {CHANGES} changes among a million paths",
        ours=f"{took:.0f} ms",
        limit=f"`git merge-tree` {median(samples['git']) * 1e3:.0f} ms",
        ratio=ratio(samples["ours"], samples["git"]),
        goal="100 ms",
        met=took <= 100,
    )


with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    rows = [
        commit_row(folder, f"commit of one file of {BIG >> 20} MiB", 1, BIG, goal=1.25),
        commit_row(folder, f"commit of {MANY:,} files of {SMALL >> 10} KiB", MANY, SMALL, goal=2.0),
        has_row(folder),
        merge_row(folder),
        *([dvc_row(folder)] if os.environ.get("TRILHA_DVC") else []),
    ]
report(rows)
