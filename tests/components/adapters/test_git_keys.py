from __future__ import annotations

import random
from pathlib import Path

import pygit2
import pytest

from components.adapters.git_keys import Keys
from components.adapters.git_lfs import from_text, to_text


@pytest.mark.parametrize("seed", range(5))
def test_it_finds_what_a_walk_finds(tmp_path: Path, seed: int) -> None:
    """On branches that grow, part, are moved back and come again, asked in any order."""
    repo = pygit2.init_repository(str(tmp_path), bare=True)
    draw, keys, author = random.Random(seed), Keys(), pygit2.Signature("a", "a@b", 0, 0)
    tree = repo.TreeBuilder().write()
    heads = [repo.create_commit(None, author, author, to_text("begin", "", {}), tree, [])]
    for number in range(400):
        index = draw.randrange(len(heads))
        if draw.random() < 0.15 and len(heads) < 12:
            heads.append(heads[index])
        elif draw.random() < 0.1:
            heads[index] = heads[draw.randrange(len(heads))]
        else:
            key = f"k{draw.randrange(200)}"
            found, walked = keys.find(repo, repo[heads[index]], key), walk(repo, heads[index], key)
            assert (found and found.id) == walked
            if walked is None or draw.random() < 0.2:  # a push of others may bring a key twice
                heads[index] = repo.create_commit(
                    None, author, author, to_text(f"m{number}", key, {}), tree, [heads[index]]
                )


def walk(repo: pygit2.Repository, head: pygit2.Oid, key: str) -> pygit2.Oid | None:
    commit = repo[head]
    while True:
        if from_text(commit.message)[1] == key:
            return commit.id
        if not commit.parent_ids:
            return None
        commit = repo[commit.parent_ids[0]]
