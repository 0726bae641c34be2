"""Where nodes run: what a project asks for, what a profile has, and what is said where the two differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.errors import ConfigError
from components.profile import GitStore, Kubeflow, Profile
from components.project import Policy
from components.runs import NodeState
from components.workspace import open_workspace
from flows.dag import Dag, trace
from flows.execute import execute, lifecycle_of
from flows.placement import elsewhere, notes, pools_of


def dag_of(placement: dict[str, str]) -> Dag:
    def pair(do):
        do.named("one-a")(one, 1)
        do.named("one-b")(one, 2)
        return do(two, 3)

    return trace(pair, placement=placement)


def one(value: int) -> None: ...


def two(value: int) -> None: ...


def profile(**more: object) -> Profile:
    return Profile(state="state", store=GitStore(path="data.git"), **more)


def test_by_step_and_by_node() -> None:
    """A placement is by the name of a step or of a node, and the node's own name wins."""
    dag = dag_of({"one": "gpu", "one-b": "big"})
    assert [node.pool for node in dag.nodes] == ["gpu", "big", None]


def test_a_step_that_there_is_not() -> None:
    """A placement that names no step is refused with those that there are."""
    with pytest.raises(ConfigError, match="placement.tow: no step 'tow' in pair.*one, one-a, one-b, two"):
        dag_of({"tow": "gpu"})


@pytest.mark.parametrize("what", ["placement: {trian: gpu}", "policy: {trian: {cpu: 1}}"])
def test_the_line_that_names_it(small: Path, what: str) -> None:
    """In a project it is told with file, line and the nearest name."""
    path = small / "config" / "projects" / "small" / "project.yaml"
    path.write_text(path.read_text() + what + "\n")
    line = len(path.read_text().splitlines())
    with pytest.raises(ConfigError, match=rf"project.yaml:{line}: no step 'trian' in lifecycle.*did you mean 'train'"):
        lifecycle_of("small", "test")


@pytest.mark.parametrize("pool", ["gpu pool", "../gpu", "Gpu"])
def test_names_of_pools(small: Path, pool: str) -> None:
    """A pool's name is of the allow-list, for it becomes part of a deployment's name."""
    path = small / "config" / "projects" / "small" / "project.yaml"
    path.write_text(path.read_text() + f"placement: {{train: '{pool}'}}\n")
    with pytest.raises(Exception, match="placement.*a lower-case letter"):
        lifecycle_of("small", "test")


def test_only_pools_that_the_profile_has() -> None:
    """An engine sends away what asks for a pool of its own; another engine's pools are not its."""
    dag = dag_of({"one": "gpu", "two": "big"})
    both = profile(pools=("gpu",), kubeflow=Kubeflow(pools={"big": {"size": "big"}}))
    assert list(elsewhere(dag, pools_of(both, "prefect"))) == ["one-a", "one-b"]
    assert list(elsewhere(dag, pools_of(both, "kubeflow"))) == ["two"]
    assert list(elsewhere(dag, pools_of(both, "local"))) == []


def test_what_is_said() -> None:
    """A pool that the profile does not have is told once, with the steps that ask for it; one that it has is not."""
    dag = dag_of({"one": "gpu", "two": "big"})
    assert notes(dag, profile(pools=("big",)), "mine", "prefect") == [
        "one: profile 'mine' has no pool 'gpu' for engine prefect; runs where other steps do"
    ]
    assert len(notes(dag, profile(pools=("big", "gpu")), "mine", "local")) == 2


def test_a_laptop_runs_it_unchanged(small: Path) -> None:
    """A project that asks for a pool runs on a profile without one."""
    path = small / "config" / "projects" / "small" / "project.yaml"
    path.write_text(path.read_text() + "placement: {observe: gpu-pool, train: gpu-pool}\n")
    execute(lifecycle_of("small", "test", "observe"), project="small", profile="test")
    assert not open_workspace("test").profile.pools


def test_kubeflow_maps_a_pool_to_labels() -> None:
    """A pool is the labels that the profile gives it; the policy's own label wins; no label where it has no such pool."""
    import yaml

    from components.ingest import observe
    from flows.engines.kubeflow_compile import compile_dag

    settings = Kubeflow(image="trilha:dev", pools={"gpu": {"kind": "gpu", "zone": "a"}})

    def single(do):
        return do(observe, project="small", profile="test", sources={})

    def labels(pool: str) -> dict[str, str]:
        traced = trace(single, policies={"observe": Policy(node_selector={"zone": "b"})}, placement={"observe": pool})
        *_, platform = yaml.safe_load_all(compile_dag(traced, "small", "test", settings))
        executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        return executors["exec-observe"]["nodeSelector"]["labels"]

    assert labels("gpu") == {"kind": "gpu", "zone": "b"}
    assert labels("other") == {"zone": "b"}


def test_why_nobody_takes_it_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """`trilha run` prints why a node waits for a worker."""
    from flows.cli.run import Progress

    Progress(dag_of({}))(NodeState(name="two", step="m:two", needs=(), status="waiting", error="no worker"))
    assert "two    waiting  no worker" in capsys.readouterr().err
