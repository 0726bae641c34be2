"""The lakeFS data store: the contract on a real server, and what is its own."""

from __future__ import annotations

import shutil
import socket
from contextlib import suppress
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.contracts.data_store")

from lakefs.exceptions import ForbiddenException, ServerException  # noqa: E402  # after the line above, like the rest
from lakefs_sdk.models.branch_protection_rule import BranchProtectionRule  # noqa: E402
from urllib3.exceptions import HTTPError  # noqa: E402

from components.adapters.git_store import GitStore  # noqa: E402
from components.adapters.lakefs_landing import HOOK, HOOK_PATH, _scratch_prefix  # noqa: E402
from components.adapters.lakefs_terms import encoded  # noqa: E402
from components.errors import ConfigError, ConflictError, GateError, NotFoundError, UnavailableError  # noqa: E402
from components.ports import DataStore  # noqa: E402
from components.workspace import Workspace, open_workspace  # noqa: E402
from tests.contracts.data_store import DataStoreContract, Writer  # noqa: E402
from tests.lakefs_server import ID, SECRET, Server, on_server, sdk, started  # noqa: E402
from tests.streams import wait_for  # noqa: E402

pytestmark = pytest.mark.lakefs


@pytest.fixture
def workspace(on_lakefs: Workspace) -> Workspace:
    """What the contract is held to."""
    return on_lakefs


class TestLakeFSStore(DataStoreContract):
    """The contract holds, and what is lakeFS' own."""

    examples = 8

    def test_tree_is_as_in_git(self, store: DataStore, write: Writer, tmp_path: Path) -> None:
        """The same data has the same digest in Git and in lakeFS."""
        git = Writer(GitStore(tmp_path / "data.git"), write.folder)
        for one in (write, git):
            one("main", {"a.b": "1", "a/b": "2", "a-b/c": ""})
            one("main", {"a/b": "3"}, deletes=["a.b"])
        assert git.store.tree("main") == store.tree("main")
        assert git.store.ls("main") == store.ls("main")

    def test_staged_once(self, store: DataStore, write: Writer, workspace: Workspace) -> None:
        """An object is fetched when it is first asked for, and kept by its checksum."""
        write("main", {"a": "1", "b": "1"})
        shutil.rmtree(workspace.home / "lakefs" / "objects")
        first = store.local("main", "a")
        assert first.read_text() == "1"
        assert store.local("main", "b") == first
        assert first.stat().st_mode & 0o222 == 0

    def test_lost_bytes(self, store: DataStore, write: Writer, workspace: Workspace, lakefs_server: Server) -> None:
        """An object whose bytes are gone on the server is not found, and its commit is not whole."""
        if lakefs_server.blocks is None:
            pytest.skip("the server's objects are out of reach")
        write("main", {"a": "1", "b": ""})
        shutil.rmtree(workspace.home / "lakefs" / "objects")
        address = sdk(workspace).ref("main").object("a").stat().physical_address
        assert store.has("main")
        Path(address.removeprefix("local://")).unlink()
        assert not store.has("main")
        with pytest.raises(NotFoundError, match="'a'"):
            store.local("main", "a")

    def test_damaged_bytes(self, store: DataStore, write: Writer, workspace: Workspace, lakefs_server: Server) -> None:
        """An object that arrives with other bytes is refused, and nothing of it is kept."""
        if lakefs_server.blocks is None:
            pytest.skip("the server's objects are out of reach")
        write("main", {"a": "1"})
        shutil.rmtree(workspace.home / "lakefs" / "objects")
        address = sdk(workspace).ref("main").object("a").stat().physical_address
        Path(address.removeprefix("local://")).write_text("2")
        for _ in range(2):
            with pytest.raises(UnavailableError, match="SHA-256"):
                store.local("main", "a")
        assert list((workspace.home / "lakefs" / "tmp").iterdir()) == []

    def test_left_branches(self, store: DataStore, write: Writer, workspace: Workspace) -> None:
        """What a killed attempt left is not seen, and the next attempt under its key removes it."""
        left = sdk(workspace).branch(_scratch_prefix("main", "k") + "0").create("main", hidden=True)
        left.object("a").upload(b"half")
        assert (store.branches(), store.ls("main")) == (["main"], [])
        write("main", {"a": "1"}, key="k")
        assert [branch.id for branch in sdk(workspace).branches(show_hidden=True)] == ["main"]
        sdk(workspace).branch(left.id).create("main", hidden=True)
        write("main", {"a": "1"}, key="k")
        assert [branch.id for branch in sdk(workspace).branches(show_hidden=True)] == ["main"]

    def test_others_commit(self, store: DataStore, write: Writer, workspace: Workspace) -> None:
        """A commit that others made counts as one: heads are compared with it, what they wrote is read like ours."""
        head = write("main", {"a": "1"})
        main = sdk(workspace).branch("main")
        main.object("raw").upload(b"1")
        main.commit("By hand")
        with pytest.raises(ConflictError, match="main"):
            write("main", {"a": "2"}, expected=head)
        assert [change.path for change in store.diff(head, "main")] == ["raw"]
        raw, ours = store.ls("main")[1], store.ls(head)[0]
        assert (raw.path, raw.sha256, raw.size) == ("raw", ours.sha256, 1)
        assert store.local("main", "raw") == store.local("main", "a")
        assert store.has("main")

    def test_others_are_staged_once(self, store: DataStore, workspace: Workspace) -> None:
        """What others wrote is fetched when it is first met; the same path with other bytes is met anew."""
        main = sdk(workspace).branch("main")
        main.object("raw").upload(b"1")
        first = main.commit("By hand").get_commit().id
        before = store.ls(first)
        shutil.rmtree(workspace.home / "lakefs" / "objects")
        assert store.ls(first) == before
        assert not (workspace.home / "lakefs" / "objects").exists()
        assert store.local(first, "raw").read_bytes() == b"1"
        main.object("raw").upload(b"22")
        main.commit("By hand")
        assert store.local("main", "raw").read_bytes() == b"22"
        assert store.ls(first) == before

    def test_others_uncommitted(self, store: DataStore, write: Writer, workspace: Workspace) -> None:
        """What others have not committed is not seen; it is in the way of a commit, which says so."""
        sdk(workspace).branch("main").object("raw").upload(b"1")
        assert store.ls("main") == []
        with pytest.raises(ConflictError, match="uncommitted changes"):
            write("main", {"a": "1"})
        assert store.branches() == ["main"]

    def test_repository_of_others(self, store: DataStore, write: Writer, workspace: Workspace) -> None:
        """A branch that was made before the hook came gets it with its first commit."""
        repository = sdk(workspace)
        first = list(repository.ref("main").log())[-1].id
        store.branch("old", first)
        assert not repository.ref("old").object(HOOK_PATH).exists()
        write("old", {"a": "1"})
        assert repository.ref("old").object(HOOK_PATH).exists()
        assert write.read("old") == {"a": "1"}

    def test_hook_of_before(self, store: DataStore, write: Writer, workspace: Workspace) -> None:
        """A repository with an earlier hook gets the one of now by one commit, whoever opens it and how often."""
        main = sdk(workspace).branch("main")
        store.branch("old", "main")
        for branch in (main, sdk(workspace).branch("old")):
            branch.object(HOOK_PATH).upload(b"name: trilha\non: {pre-merge: {}}\nhooks: []\n")
            branch.commit("As it was")
        for _ in range(2):
            open_workspace.cache_clear()
            _ = open_workspace("test").store
        assert [one.message for one in store.log("main")][:2] == ["Watch merges", "As it was"]
        write("old", {"b": "1"})
        for branch in ("main", "old"):
            assert sdk(workspace).ref(branch).object(HOOK_PATH).reader("r").read() == HOOK

    def test_plain_merge(self, store: DataStore, write: Writer, workspace: Workspace) -> None:
        """The server refuses what others merge into `main` and nothing found good: it names the branch and what to do."""
        repository = sdk(workspace)
        for name, next_step in (("trial", "trilha run PROJECT"), ("ingest/small/1.2", "trilha run small")):
            store.branch(name, "main")
            write(name, {"a": name})
            for squash in (False, True):
                with pytest.raises(ServerException) as raised:
                    repository.branch(encoded(name)).merge_into("main", squash_merge=squash)
                [said] = [line for line in raised.value.body["message"].splitlines() if "hook 'validated'" in line]
                told = f"{name!r} was not validated; accepted: a merge into 'main' by a run; next: {next_step}"
                assert said.endswith(f": {told}")
        assert write.read("main") == {}
        store.branch("trial-2", "main")
        repository.branch("trial").merge_into("trial-2")
        assert write.read("trial-2") == {"a": "trial"}
        write.merge("trial", "main")
        merged = store.resolve("main").id
        store.revert("main", merged, message="Undo", key="undo")
        assert write.read("main") == {}

    def test_hook_of_others(self, store: DataStore, write: Writer, workspace: Workspace) -> None:
        """What another's hook refuses is refused in its words, at once, in one line."""
        action = """
name: theirs
on: {pre-merge: {branches: [main]}}
hooks: [{id: friday, type: lua, properties: {script: "require('hook').fail('nothing on a Friday')"}}]
"""
        store.branch("side", "main")
        side = sdk(workspace).branch("side")
        side.object("_lakefs_actions/theirs.yaml").upload(action.encode())
        side.commit("A rule of theirs")
        with pytest.raises(
            GateError, match="'friday' of lakeFS .* 'main': nothing on a Friday; next: lakectl"
        ) as raised:
            write.merge("side", "main")
        assert len(str(raised.value).splitlines()) == 1

    @pytest.mark.long
    def test_protected_main(self, store: DataStore, write: Writer, workspace: Workspace) -> None:
        """Where lakeFS protects `main`, others cannot commit to it by hand, and ours come as ever."""
        repository = sdk(workspace)
        rule = BranchProtectionRule(pattern="main")
        repository._client.sdk_client.repositories_api.set_branch_protection_rules(repository.id, [rule])

        def refused() -> bool:
            with suppress(ForbiddenException):
                repository.branch("main").object("raw").upload(b"1")
                repository.branch("main").reset_changes()
                return False
            return True

        wait_for(refused, 15)  # lakeFS looks at its rules again after some seconds
        write("main", {"a": "1"})
        store.branch("side", "main")
        write("side", {"b": "1"}, deletes=["a"])
        write.merge("side", "main")
        store.revert("main", "main", message="Undo", key="undo")
        assert write.read("main") == {"a": "1"}

    def test_server_without_hooks(self, repository: Path, tmp_path: Path, lakefs_server: Server) -> None:
        """A server that would not compare heads is refused before anything is written."""
        if lakefs_server.blocks is None:
            pytest.skip("needs a server of its own")
        home = tmp_path / "lakefs"
        home.mkdir()
        with started(home, ACTIONS_ENABLED="false") as other, pytest.MonkeyPatch.context() as patch:
            for name, value in other.credentials.items():
                patch.setenv(name, value)
            for _ in range(2):
                workspace = on_server(repository, other.url, "no-hooks", "local://no-hooks")
                with pytest.raises(ConfigError, match="does not run hooks"):
                    _ = workspace.store
            assert [branch.id for branch in sdk(workspace).branches(show_hidden=True)] == ["main"]

    def test_server_down(self, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A server that does not answer is named, and the cause is kept."""
        for name in (ID, SECRET):
            monkeypatch.setenv(name, "x")
        with socket.create_server(("127.0.0.1", 0)) as free:
            url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(UnavailableError, match=url) as raised:
            _ = on_server(repository, url, "x-y-z").store
        assert isinstance(raised.value.__cause__, HTTPError)

    @pytest.mark.parametrize("name", [ID, SECRET])
    def test_no_credentials(self, repository: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        """A variable that is not set is named; the other one's value is not told."""
        for one in (ID, SECRET):
            monkeypatch.setenv(one, "top secret")
        monkeypatch.delenv(name)
        with pytest.raises(ConfigError, match=name) as raised:
            _ = on_server(repository, "http://127.0.0.1:9", "x-y-z").store
        assert "top secret" not in str(raised.value.as_dict())

    def test_wrong_credentials(self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
        """Credentials that the server does not know are refused without being told."""
        monkeypatch.setenv(SECRET, "top secret")
        with pytest.raises(ConfigError, match="refuses") as raised:
            _ = workspace.store
        assert "top secret" not in str(raised.value.as_dict())

    @pytest.mark.usefixtures("workspace")
    def test_repository_names(self, repository: Path, lakefs_server: Server) -> None:
        """A repository name that lakeFS does not take is named, with what it takes."""
        with pytest.raises(ConfigError, match="a_b_c"):
            _ = on_server(repository, lakefs_server.url, "a_b_c", f"{lakefs_server.namespace}a-b-c").store
