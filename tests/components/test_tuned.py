from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from components import config
from components.errors import ConfigError
from components.records import digest
from components.serve_settings import UNSET, Triton
from components.tuned import FILE, Found, Knobs, TunedFile, completed, fixed, knobs_of, write

KNOBS = Knobs(instances=3, preferred_batch_size=16, max_queue_delay_microseconds=400)
FOUND = Found(
    release=1, p99_ms=20, measured_p99_ms=11.5, requests_per_second=2000, before=900, clients=16, generator="wrk",
    machine="x", at="2026-01-01T00:00:00+00:00",
)  # fmt: skip


def set_own(small: Path, **triton: Any) -> Path:
    path = small / "config" / "projects" / "small" / "project.yaml"
    project = yaml.safe_load(path.read_text())
    project["serve"]["triton"] = triton
    path.write_text(yaml.safe_dump(project))
    return path.parent


def test_the_file_completes_the_project(small: Path) -> None:
    """What was found is what the steps get, so that the next release is exported with it."""
    folder = set_own(small, model_warmup={"rows": 2})
    before = config.load_project("small").file.serve
    write(folder, TunedFile(settings=KNOBS, found=FOUND))
    after = config.load_project("small").file.serve
    assert knobs_of(after.triton) == KNOBS
    assert after.triton.model_warmup == before.triton.model_warmup
    assert digest(after) != digest(before)


def test_when_and_where_it_was_found_changes_no_key(small: Path) -> None:
    """Found again elsewhere, the same settings are the same input of every step."""
    folder = set_own(small)
    digests = set()
    for found in (FOUND, FOUND.model_copy(update={"machine": "y", "at": "later", "requests_per_second": 1})):
        write(folder, TunedFile(settings=KNOBS, found=found))
        digests.add(digest(config.load_project("small").file.serve))
    assert len(digests) == 1


def test_what_project_yaml_sets_stands(small: Path) -> None:
    """A setting that a person wrote is not overruled by one that was found."""
    folder = set_own(small, instance_group=[{"count": 2}], dynamic_batching={"max_queue_delay_microseconds": 50})
    write(folder, TunedFile(settings=KNOBS, found=FOUND))
    knobs = knobs_of(config.load_project("small").file.serve.triton)
    assert (knobs.instances, knobs.max_queue_delay_microseconds) == (2, 50)
    assert knobs.preferred_batch_size == 16
    assert fixed(config.own_settings("small")) == {"instances", "max_queue_delay_microseconds"}


def test_batching_that_is_off_stays_off() -> None:
    """No size is put where a person wants each request by itself."""
    own = Triton(dynamic_batching=False)
    assert completed(own, KNOBS).dynamic_batching is False
    assert fixed(own) == {"preferred_batch_size", "max_queue_delay_microseconds"}


def test_the_least_is_as_if_nothing_was_set() -> None:
    """One instance and no sizes make the very bundle that no settings make."""
    assert completed(UNSET, Knobs()) == UNSET
    assert knobs_of(UNSET) == Knobs()


def test_a_file_that_somebody_broke(small: Path) -> None:
    """It is read as strictly as what people write: file and line are named."""
    folder = set_own(small)
    path = write(folder, TunedFile(settings=KNOBS, found=FOUND))
    path.write_text(path.read_text().replace("instances: 3", "instances: many"))
    with pytest.raises(ConfigError, match=rf"{FILE}:\d+.*instances"):
        config.load_project("small")
