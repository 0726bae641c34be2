"""How long does `make run` take in a fresh clone with an empty home, where nothing is installed and nothing cached?

The limit is the installation alone, byte code included: `make setup` in another fresh clone.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from report import ROOT, Row, Sample, measure, median, ratio, report

ROUNDS = 2


def fresh(target: str) -> Sample:
    """`make TARGET` as the first thing that a machine does."""
    with tempfile.TemporaryDirectory(prefix="trilha-fresh-") as folder:
        clone, home = Path(folder) / "trilha", Path(folder) / "home"
        home.mkdir()
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        ours = ("PREFECT_", "TRILHA_", "UV_", "VIRTUAL_ENV", "XDG_", "PYTHONDONTWRITEBYTECODE")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        try:
            return measure(["make", target], cwd=clone, env=environment | {"HOME": str(home)})
        finally:
            subprocess.run([clone / ".venv" / "bin" / "trilha", "down"], cwd=clone, capture_output=True, check=False)


samples: dict[str, list[Sample]] = {"run": [], "setup": []}
for _ in range(ROUNDS):
    for name, kept in samples.items():
        kept.append(fresh(name))
seconds = median(samples["run"])
report(
    [
        Row(
            question="`make run` on a fresh machine: installation, byte code, services, the lifecycle of `flights`",
            ours=f"{seconds:.0f} s",
            limit=f"`make setup` alone {median(samples['setup']):.0f} s",
            ratio=ratio(samples["run"], samples["setup"]),
            goal="180 s",
            met=seconds <= 180,
            note="downloads included, nothing cached",
        )
    ]
)
