"""What became of predictions: `POST /v1/projects/NAME/feedback`, whose receipt names the release that is rewarded.

It may come late, twice, and at any gateway. A label is held against what the prediction said, which the log of
predictions has (`online.log`); a reward needs nothing but the receipt.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from components.adapters.triton_config import MAX_ROWS
from components.answers import LABEL
from components.gateway import receipts
from components.gateway.log import logged
from components.gateway.problems import Problem
from components.gateway.requests import Answer

if TYPE_CHECKING:
    from components.gateway.catalogue import Catalogue
    from components.gateway.receipts import Receipt
    from components.selection_settings import Selection
    from components.tally import Tally
    from components.workspace import Workspace

AHEAD: Final = 60.0
"""Seconds that another gateway's clock may be ahead."""
WRITTEN: Final = 120.0
"""Seconds after which a prediction that is written down at all can be read."""

_SHAPE: Final = '{"receipt": "...", "reward": 0 to 1} or {"receipt": "...", "label": ...}'


class Told(msgspec.Struct, forbid_unknown_fields=True):
    """What a client says."""

    receipt: str
    reward: float | None = None
    label: int | str | None = None


class Feedback:
    """Takes feedback.

    Args:
        workspace: its data store has the log of predictions.
        catalogue: the arms of each project.
        tally: where rewards are counted, once each.
    """

    def __init__(self, workspace: Workspace, catalogue: Catalogue, tally: Tally) -> None:
        self._workspace = workspace
        self._catalogue = catalogue
        self._tally = tally

    async def take(self, project: str, body: bytes) -> Answer:
        """Count a reward.

        Raises:
            Problem: 4xx; names the member at fault.
        """
        told = _told(body)
        selection = self._catalogue.entry(project).selection
        if selection is None:
            raise Problem(409, f"{project} has no selection that learns", accepted="a project with `selection:`")
        receipt = self._receipt(project, told.receipt, selection)
        reward = told.reward if told.reward is not None else await asyncio.to_thread(self._hit, receipt, told.label)
        if not 0 <= reward <= 1:
            raise Problem(422, f"reward is {reward:g}", field="reward", accepted="a number from 0 to 1")
        name = f"{receipt.request}.{receipt.row or 0}"
        counted = await asyncio.to_thread(self._tally.reward, project, name, receipt.release, reward)
        facts = {"project": project, "release": receipt.release, "receipt": name, "reward": reward, "counted": counted}
        return Answer(msgspec.json.encode(facts))

    def _receipt(self, project: str, text: str, selection: Selection) -> Receipt:
        """The receipt, if this project gave it to a prediction of one of its arms, and not too long ago.

        Raises:
            Problem: 404, 409, 410 or 422.
        """
        receipt = receipts.parse(text)
        if receipt is None or (receipt.row or 0) >= MAX_ROWS:
            raise _refused(422, "this is no receipt", "what a prediction came with, .ROW behind it for one row")
        if receipt.project != project:
            raise _refused(422, f"this is a receipt of {receipt.project}", f"one of {project}")
        door = self._catalogue.entry(project).arms.get(receipt.release)
        if receipt.release not in selection.arms or door is None:
            arms = ", ".join(map(str, selection.arms))
            raise _refused(409, f"release {receipt.release} is not to be chosen from", f"a receipt of release {arms}")
        if not receipt.request.startswith(door.prefix):
            raise _refused(404, f"release {receipt.release} of {project} gave no such receipt", f"{door.prefix}...")
        age = time.time() - receipt.moment.timestamp()
        if age < -AHEAD:
            raise _refused(422, "this receipt is of the future", "one that was given already")
        if age > selection.window:
            raise _refused(410, "this receipt has expired", f"feedback within {selection.window:g} s")
        return receipt

    def _hit(self, receipt: Receipt, label: int | str | None) -> float:
        """1 where the prediction said `label`, else 0.

        Raises:
            Problem: 409; what it said is not known, or not yet.
        """
        named = f"{receipt.request}.{receipt.row or 0}"
        rows = (row for row in logged(self._workspace.store, receipt) if row["receipt"] == named)
        said = next(rows, {}).get(LABEL)
        if said is not None:
            return float(str(said) == str(label))
        if time.time() - receipt.moment.timestamp() < WRITTEN:
            raise Problem(
                409, "what this prediction said is not written down yet", field="label", retry_after=WRITTEN / 2
            )  # fmt: skip
        raise Problem(
            409, "what this prediction said was not written down", field="label", accepted="reward, or `online.log: 1`"
        )  # fmt: skip


def _told(body: bytes) -> Told:
    try:
        told = _decoder.decode(body)
    except msgspec.ValidationError as error:
        words, _, path = str(error).partition(" - at `$.")
        field = path.rstrip("`") or words.partition("field `")[2].rstrip("`")
        raise Problem(422, words.replace("`", ""), field=field, accepted=_SHAPE) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, f"the body is not JSON: {error}", accepted=_SHAPE) from None
    if (told.reward is None) == (told.label is None):
        raise Problem(422, "one of reward and label has to be there", field="reward", accepted=_SHAPE)
    return told


def _refused(status: int, words: str, accepted: str) -> Problem:
    return Problem(status, words, field="receipt", accepted=accepted)


def schema() -> dict[str, Any]:
    """Of a request's body."""
    receipt = {"type": "string", "description": "What a prediction came with; .ROW behind it for one of several rows."}
    reward = {"type": "number", "minimum": 0, "maximum": 1}
    return {
        "type": "object",
        "required": ["receipt"],
        "properties": {"receipt": receipt, "reward": reward, "label": {"type": ["integer", "string"]}},
        "oneOf": [{"required": ["reward"]}, {"required": ["label"]}],
        "additionalProperties": False,
    }


_decoder = msgspec.json.Decoder(Told)
