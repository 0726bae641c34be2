"""How the objects of a commit come to its hidden branch: in one request, in parts, or by a mere reference."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor

import lakefs
from lakefs.client import Client
from lakefs.exceptions import api_exception_handler
from lakefs_sdk.models.object_stage_creation import ObjectStageCreation

from components.adapters.lakefs_parts import Parts
from components.adapters.lakefs_terms import to_metadata
from components.adapters.object_folder import ObjectFolder
from components.ports import Address, Entry

REQUESTS = 4
"""Objects on their way at the same time."""


class Uploads:
    """What is sent to one repository.

    Args:
        repository: the SDK's.
        client: the SDK's.
        cache: where the objects are staged on this machine.
        parts: the way of large ones.
    """

    def __init__(self, repository: lakefs.Repository, client: Client, cache: ObjectFolder, parts: Parts) -> None:
        self._repo = repository
        self._stage_api = client.sdk_client.internal_api
        self._cache = cache
        self._parts = parts

    def send(self, scratch: lakefs.Branch, entries: Collection[Entry], addresses: Mapping[str, Address]) -> None:
        """Have a branch hold `entries`, uncommitted.

        Args:
            scratch: the branch.
            entries: objects that are staged.
            addresses: of those, by path, that the server's storage has already.
        """
        there = {entry: addresses[entry.path] for entry in entries if entry.path in addresses}
        for entry in entries:
            if entry not in there and self._parts.take(entry):
                there[entry] = self._parts.send(entry, self._cache.path(entry.sha256))
        with ThreadPoolExecutor(REQUESTS) as pool:
            list(pool.map(lambda entry: self._put(scratch, entry), [entry for entry in entries if entry not in there]))
        for entry, address in there.items():
            self._refer(scratch, entry, address)

    def forget(self, entries: Collection[Entry]) -> None:
        """What was sent has come to where it belongs."""
        for entry in entries:
            if self._parts.take(entry):
                self._parts.forget(entry)

    def _put(self, scratch: lakefs.Branch, entry: Entry) -> None:
        target = scratch.object(entry.path).writer("wb", metadata=to_metadata(entry))
        with self._cache.path(entry.sha256).open("rb") as source, target:
            shutil.copyfileobj(source, target, 1 << 20)

    def _refer(self, scratch: lakefs.Branch, entry: Entry, address: Address) -> None:
        """Have the branch name an object that lies elsewhere in the server's storage: its bytes are not moved."""
        order = ObjectStageCreation(
            physical_address=address.physical,
            checksum=address.checksum,
            size_bytes=entry.size,
            metadata=to_metadata(entry),
            mtime=None,
            content_type=None,
        )
        with api_exception_handler():
            self._stage_api.stage_object(self._repo.id, scratch.id, entry.path, order)
