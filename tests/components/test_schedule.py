"""`schedule` in project.yaml: what is accepted, and what a person is told otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from components import config
from components.errors import ConfigError
from components.schedule import Schedule


@pytest.mark.parametrize("cron", ["* * * * *", "0 3 * * *", "*/15 8-18 * * 1-5", "0 0 29 2 *", "30 6 1,15 JAN,JUL MON"])
def test_accepted(cron: str) -> None:
    """Crons of five fields, with steps, ranges, lists and names."""
    assert Schedule(cron=cron, timezone="Asia/Kolkata").cron == cron


def fault(small: Path, schedule: str) -> str:
    path = small / "config/projects/small/project.yaml"
    path.write_text(path.read_text().rstrip() + f"\nschedule: {schedule}\n")
    line = len(path.read_text().splitlines())
    with pytest.raises(ConfigError) as caught:
        config.load_project("small")
    assert f"project.yaml:{line}: schedule." in str(caught.value)
    assert str(caught.value).endswith("next: correct that line")
    return str(caught.value)


@pytest.mark.parametrize("cron", ["61 3 * * *", "daily", "@daily", "0 0 3 * * *", "0 0 31 2 *", "a b c d e", ""])
def test_no_cron(small: Path, cron: str) -> None:
    """File, line, key and what is accepted."""
    said = fault(small, f'{{cron: "{cron}"}}')
    assert f"schedule.cron: {cron!r}; accepted: five fields: minute, hour" in said


@pytest.mark.parametrize(
    ("zone", "meant"), [("Europe/Lisboa", "Europe/Lisbon"), ("europe/lisbon", "Europe/Lisbon"), ("utc", "UTC")]
)
def test_no_time_zone(small: Path, zone: str, meant: str) -> None:
    """The nearest one is named."""
    said = fault(small, f'{{cron: "0 3 * * *", timezone: {zone}}}')
    assert f"schedule.timezone: {zone!r}; accepted: a name of the IANA time zone database" in said
    assert f"did you mean {meant!r}?" in said


@pytest.mark.parametrize("zone", ["../../etc/passwd", "Moon/Tranquility", "''"])
def test_nothing_like_a_time_zone(small: Path, zone: str) -> None:
    """No file is opened by that name, and nothing is guessed."""
    assert "accepted: a name of the IANA time zone database" in fault(small, f'{{cron: "0 3 * * *", timezone: {zone}}}')
