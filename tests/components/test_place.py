"""A place on a local disk and in object stores: a real S3 server, and emulators of Google's and Azure's."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from components.errors import ConfigError, NotFoundError, TrilhaError, UnavailableError
from components.place import HALF_A_DAY, Place
from tests.azure import KEY, connection
from tests.gcs import ANONYMOUS, point_at, refusing
from tests.object_stores import BUCKETS, STORES
from tests.s3 import SECRET


@pytest.fixture(params=["local", *STORES])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place."""
    if request.param == "local":
        return str(tmp_path / "here")
    return f"{request.getfixturevalue(BUCKETS[request.param])}/here"


def test_written_read_replaced(url: str) -> None:
    """What was written last is read, also by somebody who asked before it was there."""
    place, other = Place(url), Place(url)
    assert other.read("a/one.json") is None
    assert (other.names(), other.folders()) == ([], [])
    place.write("a/one.json", b"1")
    assert other.read("a/one.json") == b"1"
    place.write("a/one.json", b"2")
    assert other.read("a/one.json") == b"2"
    assert (other.size("a/one.json"), other.size("a/two.json")) == (1, None)
    place.remove("a")
    place.remove("a")
    assert other.read("a/one.json") is None


def test_names_and_folders(url: str) -> None:
    """Names come with their folders, sorted; what others write is seen at once."""
    place, other = Place(url), Place(url)
    place.write("b/two.json", b"")
    assert other.names() == ["b/two.json"]
    place.write("a/x/one.json", b"")
    assert other.names() == ["a/x/one.json", "b/two.json"]
    assert other.names("a/x") == ["a/x/one.json"]
    assert other.folders() == ["a", "b"]


def test_files_say_their_bytes_and_when_they_came(url: str) -> None:
    """Each file says how many bytes it has and when it was written; all of a folder, together."""
    place = Place(url)
    assert place.files() == {}
    place.write("a/one.json", b"1")
    place.write("a/two.json", b"22")
    found = place.files("a")
    assert {name: stat.size for name, stat in found.items()} == {"a/one.json": 1, "a/two.json": 2}
    assert all(abs(stat.changed - time.time()) < 60 for stat in found.values())
    assert place.files("a/one.json").keys() == {"a/one.json"}
    whole = found["a/one.json"] + found["a/two.json"]
    assert (whole.size, whole.changed) == (3, max(stat.changed for stat in found.values()))
    place.touch("a/three.json")
    assert place.read("a/three.json") is None
    place.remove("a/one.json")
    assert place.files().keys() == {"a/two.json"}


@pytest.mark.parametrize("store", ["local", "s3"])  # whose files a test can let be old
def test_what_is_touched_was_used_now(store: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """A file that was not used for long is one that was used just now, with what is in it."""
    url, behind = str(tmp_path / "here"), tmp_path / "here"
    if store == "s3":
        url = f"{request.getfixturevalue('bucket')}/here"
        behind = request.getfixturevalue("s3_server")[1] / url.removeprefix("s3://")
    place = Place(url)
    place.write("a/one.json", b"1")
    old = time.time() - 2 * HALF_A_DAY
    os.utime(behind / "a" / "one.json", (old, old))
    assert abs(Place(url).files()["a/one.json"].changed - old) < 2
    place.touch("a/one.json")
    assert place.files()["a/one.json"].changed > time.time() - 60
    assert place.read("a/one.json") == b"1"


def test_a_half_written_file_is_no_file(tmp_path: Path) -> None:
    """What a killed process left on the disk is not listed."""
    place = Place(str(tmp_path))
    place.write("a.json", b"1")
    (tmp_path / "b.json.1f.part").write_bytes(b"half")
    assert place.names() == ["a.json"]


def test_folders_are_copied(url: str, tmp_path: Path) -> None:
    """Up with all below it, and down a file at a time."""
    (tmp_path / "out" / "deep").mkdir(parents=True)
    (tmp_path / "out" / "deep" / "one").write_bytes(b"1")
    Place(url).upload(tmp_path / "out", "copy")
    assert Place(url).names() == ["copy/deep/one"]
    Place(url).download("copy/deep/one", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"1"


@pytest.mark.parametrize(
    ("variable", "value", "bucket_name", "kind", "says"),
    [
        ("AWS_SECRET_ACCESS_KEY", f"{SECRET}-wrong", "", ConfigError, "signature .* accepted: credentials in the env"),
        (
            "AWS_ENDPOINT_URL",
            "http://127.0.0.1:9",
            "",
            UnavailableError,
            "nobody answers at 127.0.0.1:9: .*check the address",
        ),
        ("AWS_ENDPOINT_URL", None, "nobodys-bucket", NotFoundError, "make the bucket"),
        ("AWS_SECRET_ACCESS_KEY", "", "", ConfigError, "accepted: credentials in the environment"),
    ],
)
def test_a_place_that_refuses(
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str | None,
    bucket_name: str,
    kind: type[TrilhaError],
    says: str,
) -> None:
    """One line with the URL, and no word of the secret: a wrong key, no server, no bucket, no key."""
    if value is not None:
        monkeypatch.setenv(variable, value)
    url = f"s3://{bucket_name}/state" if bucket_name else f"{bucket}/state"
    monkeypatch.setattr("fsspec.spec.AbstractFileSystem.cachable", False)
    with pytest.raises(kind, match=says) as caught:
        Place(url).write("a", b"1")
    assert str(caught.value).startswith(url)
    assert SECRET not in str(caught.value)


def refused(url: str, kind: type[TrilhaError], says: str) -> None:
    """Whatever is asked of a place, it refuses in one line with its URL, and without the key."""
    place = Place(url)
    for ask in (
        lambda: place.write("a", b"1"),
        lambda: place.read("a"),
        lambda: place.size("a"),
        lambda: place.files(),
        lambda: place.folders(),
        lambda: place.remove("a"),
    ):
        with pytest.raises(kind, match=says) as caught:
            ask()
        assert str(caught.value).startswith(f"{url}: ")
        assert "\n" not in str(caught.value)
        assert KEY not in str(caught.value)


def test_a_key_that_azure_does_not_take(
    azure_container: str, azure_server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The credentials are to be corrected; nobody is told to try again."""
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection(azure_server, key=f"AAAA{KEY}"))
    monkeypatch.setattr("fsspec.spec.AbstractFileSystem.cachable", False)
    refused(f"{azure_container}/state", ConfigError, "authenticate the request.* accepted: credentials in the env")


@pytest.mark.parametrize("status", [401, 403])
def test_a_caller_whom_google_refuses(gcs_bucket: str, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """Without credentials, and without the right to do it: the same to correct."""
    with refusing(status) as server:
        point_at(server, monkeypatch)
        refused(f"{gcs_bucket}/state", ConfigError, f"{ANONYMOUS}.*accepted: credentials in the env")


@pytest.mark.parametrize("store", STORES)
def test_a_bucket_that_is_not_there(request: pytest.FixtureRequest, store: str) -> None:
    """Nothing lies there, and what is written is refused with what to do."""
    url = f"{request.getfixturevalue(BUCKETS[store])}-gone/state"
    place = Place(url)
    assert (place.read("a"), place.size("a"), place.names(), place.folders(), place.files()) == (None, None, [], [], {})
    with pytest.raises(NotFoundError, match="make the bucket") as caught:
        place.write("a", b"1")
    assert str(caught.value).startswith(f"{url}: ")
    assert "\n" not in str(caught.value)


def test_a_url_that_nothing_knows() -> None:
    """It is said when the place is named, not when something is looked for."""
    with pytest.raises(ConfigError, match="nonsense://place: Protocol not known: nonsense; accepted: a folder, or"):
        Place("nonsense://place")
