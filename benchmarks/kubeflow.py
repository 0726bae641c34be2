"""How long does it take to compile the lifecycle of `flights` to a Kubeflow package, whole process included?

The limit is a Python process that imports Kubeflow's SDK and compiles a pipeline of one empty container.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from report import Row, interleave, measure, median, ratio, report

BARE = """
import sys
from kfp import dsl
from kfp.compiler import Compiler

@dsl.container_component
def empty():
    return dsl.ContainerSpec(image="none", command=["true"])

@dsl.pipeline(name="bare")
def pipeline():
    empty()

Compiler().compile(pipeline, sys.argv[1])
"""

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "pipeline.yaml"
    trilha = [str(Path(sys.executable).with_name("trilha")), "kubeflow", "compile", "flights", "--output", str(path)]
    samples = interleave(
        {
            "trilha": lambda: measure([*trilha, "--profile", "onprem"]),
            "bare": lambda: measure([sys.executable, "-c", BARE, str(path)]),
        },
        rounds=9,
    )
report(
    [
        Row(
            question="the lifecycle of flights as a Kubeflow package, whole process",
            ours=f"{median(samples['trilha']):.2f} s",
            limit=f"one empty container with Kubeflow's SDK {median(samples['bare']):.2f} s",
            ratio=ratio(samples["trilha"], samples["bare"]),
            goal="2 s",
            met=median(samples["trilha"]) <= 2,
        )
    ]
)
