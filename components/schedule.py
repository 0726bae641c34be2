"""When a project runs by itself: a cron in a time zone, checked when it is read, not when it should have run."""

from __future__ import annotations

import difflib
import zoneinfo
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator

from components.settings import Settings


def _cron(value: str) -> str:
    """`value`, if it is a cron with days that there are; a ValueError says what is one."""
    from cronsim import CronSim, CronSimError

    accepted = "five fields: minute, hour, day of month, month, day of week, as in '0 3 * * 1-5'"
    if len(value.split()) != 5:
        raise ValueError(accepted)
    try:
        CronSim(value, datetime.now(UTC))
    except CronSimError as error:
        raise ValueError(f"{accepted} ({str(error).lower()})") from None
    return value


def _zone(value: str) -> str:
    """`value`, if it names a time zone; a ValueError names the nearest one."""
    if value in zoneinfo.available_timezones():
        return value
    known = {name.casefold(): name for name in sorted(zoneinfo.available_timezones())}
    near = difflib.get_close_matches(value.casefold(), known, n=1)
    hint = f" (did you mean {known[near[0]]!r}?)" if near else ""
    raise ValueError(f"a name of the IANA time zone database, as 'Europe/Lisbon' or 'UTC'{hint}")


class Schedule(Settings):
    """`schedule` in project.yaml: the lifecycle is started at these times, where the engine has a server."""

    cron: Annotated[str, AfterValidator(_cron)]
    """Five fields."""
    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"
    """The clock that the cron is read by; summer time is its own."""
    active: bool = True
    """False: it is shown, and a person may switch it on; a machine that sleeps at night had better not try."""
