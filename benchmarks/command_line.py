"""What does `trilha --help` cost, against a Python that starts and does nothing?"""

from __future__ import annotations

import sys
from pathlib import Path

from report import Row, interleave, measure, median, ratio, report

TRILHA = str(Path(sys.executable).with_name("trilha"))

samples = interleave(
    {
        "trilha": lambda: measure([TRILHA, "--help"]),
        "python": lambda: measure([sys.executable, "-c", "pass"]),
        "prefect": lambda: measure([str(Path(sys.executable).with_name("prefect")), "--help"]),
    },
    rounds=9,
)
report(
    [
        Row(
            question="`trilha --help`, whole process",
            ours=f"{median(samples['trilha']):.2f} s",
            limit=f"bare Python {median(samples['python']):.2f} s; `prefect --help` {median(samples['prefect']):.2f} s",
            ratio=ratio(samples["trilha"], samples["python"]),
            goal="0.25 s",
            met=median(samples["trilha"]) <= 0.25,
        )
    ]
)
