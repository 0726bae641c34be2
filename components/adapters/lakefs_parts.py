"""Large objects on their way to a lakeFS server in parts, so that a killed upload goes on where it was.

Parts go through the server's S3 gateway to a hidden branch that all uploads share, under the object's SHA-256. What is
half done, and what was finished but never landed, is therefore known to the server and found there by its name: nothing
about it is kept on this machine, and any machine may go on. The object is then referred to from where it is needed, as
an import is. The gateway lists uploads and their parts where lakeFS keeps its objects in S3, or what speaks as S3 does.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import lakefs
from lakefs.client import Client
from lakefs.exceptions import NotFoundException
from lakefs.models import ObjectInfo

from components.adapters.store_rules import MAIN
from components.errors import UnavailableError
from components.ports import Address, Entry, Leftover

if TYPE_CHECKING:
    from components.profile import LakeFSStore as Settings

LARGE: Final = 64 << 20
"""Bytes; smaller objects go in one request each."""
PART: Final = 16 << 20
MOST: Final = 10_000
"""Parts of one object, as S3 has it; those of very large objects are larger."""
AT_ONCE: Final = 4
BRANCH: Final = "Uploads"
"""Hidden, and nobody else's: names of ours have no other capitals than `S` and `D`."""


class Parts:
    """What is uploaded in parts to one repository.

    Args:
        settings: where the server is, and the variables with its key.
        repository: the SDK's.
        client: the SDK's.
    """

    def __init__(self, settings: Settings, repository: lakefs.Repository, client: Client) -> None:
        self._settings = settings
        self._repo = repository
        self._client = client

    def take(self, entry: Entry) -> bool:
        """Whether this is the way for an object: it is large, and the server and this machine are up to it."""
        return entry.size >= LARGE and self._ready

    def send(self, entry: Entry, path: Path) -> Address:
        """Have the server hold an object; returns where it has it.

        Raises:
            UnavailableError: the server, or its storage, cannot be used.
        """
        for last in (False, True):
            found = self._finished(entry)
            if found is not None:
                return found
            try:
                with _plain(self._settings.url):
                    self._upload(entry, path)
            except UnavailableError:  # also where somebody else sent the same bytes, and was first
                if last:
                    raise
        found = self._finished(entry)
        if found is None:
            raise UnavailableError(f"{entry.path}: lakeFS does not hold what was sent", next_step="try again")
        return found

    def forget(self, entry: Entry) -> None:
        """Drop the name of what was sent, once the object has a better one."""
        with suppress(NotFoundException):
            self._branch.object(entry.sha256).delete()

    # --- what was left ------------------------------------------------------------------------------------------------

    def leftovers(self, before: float) -> Iterator[Leftover]:
        """Uploads that nobody has gone on with since a moment, in POSIX seconds; what has no part yet holds nothing."""
        try:
            for change in [one for one in self._branch.uncommitted() if one.type != "removed"]:
                info = self._branch.object(change.path).stat()
                if info.mtime < before:
                    yield Leftover("part", change.path, f"upload {change.path[:12]}", info.size_bytes or 0)
        except NotFoundException:  # the branch: nothing large was ever sent
            return
        if self._ready:
            with _plain(self._settings.url):
                for sha256, upload in self._begun():
                    parts = self._parts(sha256, upload)
                    if parts and max(one["LastModified"].timestamp() for one in parts.values()) < before:
                        size = sum(one["Size"] for one in parts.values())
                        yield Leftover("part", f"{sha256} {upload}", f"half of an upload, {sha256[:12]}", size)

    def discard(self, leftover: str) -> None:
        """Remove one of them, by its id."""
        sha256, _, upload = leftover.partition(" ")
        if upload:
            with _plain(self._settings.url):
                self._s3.abort_multipart_upload(**self._at(sha256), UploadId=upload)
        else:
            with suppress(NotFoundException):
                self._branch.object(sha256).delete()

    # --- inside -------------------------------------------------------------------------------------------------------

    @cached_property
    def _ready(self) -> bool:
        """Other storage than S3 does not list what was begun, and without boto3 nobody speaks with the gateway."""
        storage = self._client.storage_config_by_id(self._branch.object(BRANCH).storage_id())
        return storage.blockstore_type == "s3" and find_spec("boto3") is not None

    @cached_property
    def _s3(self) -> Any:
        from boto3.session import Session
        from botocore.config import Config

        settings = self._settings
        return Session().client(
            "s3",
            endpoint_url=settings.url,
            region_name="us-east-1",  # in the signature; lakeFS takes any
            aws_access_key_id=os.environ[settings.access_key_env],
            aws_secret_access_key=os.environ[settings.secret_key_env],
            config=Config(
                s3={"addressing_style": "path"},
                retries={"mode": "standard", "total_max_attempts": 2},  # and `send` goes on with what has arrived
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    @property
    def _branch(self) -> lakefs.Branch:
        return self._repo.branch(BRANCH)

    def _at(self, sha256: str) -> dict[str, str]:
        return {"Bucket": self._repo.id, "Key": f"{BRANCH}/{sha256}"}

    def _finished(self, entry: Entry) -> Address | None:
        try:
            info: ObjectInfo = self._branch.object(entry.sha256).stat()
        except NotFoundException:
            return None
        return Address(info.physical_address, info.checksum) if info.size_bytes == entry.size else None

    def _upload(self, entry: Entry, path: Path) -> None:
        at = self._at(entry.sha256)
        upload = next((upload for sha256, upload in self._begun() if sha256 == entry.sha256), None)
        if upload is None:
            self._make_branch()
            upload = self._s3.create_multipart_upload(**at)["UploadId"]
        there = self._parts(entry.sha256, upload)
        length = max(PART, -(-entry.size // MOST))

        def send(number: int) -> dict[str, Any]:
            with path.open("rb") as file:
                file.seek((number - 1) * length)
                content = file.read(length)
            if not _same(there.get(number), content):
                return {"PartNumber": number, "ETag": self._put(at, upload, number, content)}
            return {"PartNumber": number, "ETag": there[number]["ETag"]}

        with ThreadPoolExecutor(AT_ONCE) as pool:
            parts = list(pool.map(send, range(1, -(-entry.size // length) + 1)))
        self._s3.complete_multipart_upload(**at, UploadId=upload, MultipartUpload={"Parts": parts})

    def _put(self, at: Mapping[str, str], upload: str, number: int, content: bytes) -> str:
        sent = self._s3.upload_part(**at, UploadId=upload, PartNumber=number, Body=content)
        return str(sent["ETag"])

    def _begun(self) -> Iterator[tuple[str, str]]:
        """SHA-256 and id of each upload that was begun and not finished."""
        for page in self._s3.get_paginator("list_multipart_uploads").paginate(Bucket=self._repo.id):
            for one in page.get("Uploads", ()):
                yield one["Key"], one["UploadId"]

    def _parts(self, sha256: str, upload: str) -> dict[int, dict[str, Any]]:
        pages = self._s3.get_paginator("list_parts").paginate(**self._at(sha256), UploadId=upload)
        return {one["PartNumber"]: one for page in pages for one in page.get("Parts", ())}

    def _make_branch(self) -> None:
        """At the first commit, for its head keeps what a commit names."""
        if not any(branch.id == BRANCH for branch in self._repo.branches(prefix=BRANCH, show_hidden=True)):
            first = list(self._repo.ref(MAIN).log(first_parent=True))[-1]
            self._branch.create(first.id, exist_ok=True, hidden=True)


def _same(part: Mapping[str, Any] | None, content: bytes) -> bool:
    """Whether a part that the server has is this one.

    Its tag is an MD5, but where the storage encrypts by a key of its own: there, all is sent again.
    """
    tag = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return part is not None and part["Size"] == len(content) and part["ETag"].strip('"') == tag


@contextmanager
def _plain(url: str) -> Iterator[None]:
    """Turn boto3's errors into ours."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise UnavailableError(
            f"lakeFS at {url} cannot take an object in parts: {error}",
            next_step="run again: what has arrived is not sent again",
        ) from error
