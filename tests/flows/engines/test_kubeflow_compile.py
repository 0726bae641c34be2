"""A DAG as a Kubeflow pipeline: what the compiled package says, read back as YAML."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.calls import PackedCall
from components.errors import ConfigError, DagError
from components.profile import Kubeflow
from components.project import Policy, Toleration
from components.records import Record
from components.steps import STEPS
from flows.dag import Dag, Do, trace
from flows.engines import local
from flows.engines.kubeflow_compile import GRACE, compile_dag
from flows.execute import lifecycle_of

IMAGE = "registry.example.com/trilha:1"
ROOT = Path(__file__).parents[3]


class Count(Record):
    value: int


def first(text: str) -> Count:
    return Count(value=len(text))


def second(before: Count) -> Count:
    return Count(value=before.value + 1)


def compiled(dag: Dag, **settings: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The pipeline and its Kubernetes part, as read back."""
    documents = yaml.safe_load_all(compile_dag(dag, "small", "test", Kubeflow(image=IMAGE, **settings)))
    pipeline, *platform = documents
    return pipeline, platform[0]["platforms"]["kubernetes"]["deploymentSpec"]["executors"] if platform else {}


def two(policy: Policy | None = None, text: str = "abc") -> Dag:
    """A node, and one that needs it."""

    def pair(do: Do) -> Count:
        return do(second, before=do(first, text=text))

    return trace(pair, policies={"first": policy} if policy else {})


@pytest.fixture(autouse=True)
def _steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """`first` and `second` may be asked for by name."""
    for name in ("first", "second"):
        monkeypatch.setitem(STEPS, name, f"{__name__}:{name}")


def container(pipeline: dict[str, Any], node: str) -> dict[str, Any]:
    return pipeline["deploymentSpec"]["executors"][f"exec-{node}"]["container"]


def test_a_node_is_one_command_on_the_image() -> None:
    """The container runs the step by name and is told the run; nothing else is in it."""
    found = container(compiled(two())[0], "first")
    assert found["image"] == IMAGE
    assert found["command"] == ["python", "-m", "components"]
    assert found["args"][0] == "first"
    assert "resources" not in found
    call = PackedCall.model_validate_json(found["args"][found["args"].index("--call") + 1])
    assert (call.name, call.arguments) == ("first", {"text": "abc"})


def test_records_are_inputs_and_text() -> None:
    """An edge is a parameter of type STRING, which keeps integers what they are."""
    pipeline, _ = compiled(two())
    inputs = pipeline["root"]["dag"]["tasks"]["second"]["inputs"]["parameters"]
    assert inputs["first_record"] == {"taskOutputParameter": {"outputParameterKey": "record", "producerTask": "first"}}
    kinds = pipeline["components"]["comp-second"]["inputDefinitions"]["parameters"]
    assert kinds["first_record"] == {"parameterType": "STRING"}


def test_the_run_is_a_parameter_with_a_description() -> None:
    """A person who starts the pipeline on Kubeflow's page sees what `run` is, and may leave it empty."""
    run = compiled(two())[0]["root"]["inputDefinitions"]["parameters"]["run"]
    assert run["parameterType"] == "STRING"
    assert run["defaultValue"] == ""
    assert "record" in run["description"]


def test_nothing_in_an_argument_is_taken_for_a_placeholder() -> None:
    """What looks like one of Kubeflow's own is written otherwise and reads the same."""
    text = "{{$.inputs.parameters['run']}} and {{}}"
    arguments = container(compiled(two(text=text))[0], "first")["args"]
    written = arguments[arguments.index("--call") + 1]
    assert "{{" not in written
    assert json.loads(written)["arguments"] == {"text": text}


def test_kubeflows_own_cache_is_off() -> None:
    """The ledger decides what is done again."""
    for task in compiled(two())[0]["root"]["dag"]["tasks"].values():
        assert not task["cachingOptions"].get("enableCache")


def test_a_policy_is_honoured() -> None:
    """CPU, memory, accelerator, retries, timeout, node selector and tolerations are in the package."""
    policy = Policy(
        cpu=1.5, memory_mb=2048, gpu=2, retries=3, retry_delay=20, timeout=90.5,
        node_selector={"disk": "fast"},
        tolerations=(Toleration(key="gpu", value="yes", effect="NoSchedule"), Toleration(key="spot", operator="Exists")),
    )  # fmt: skip
    pipeline, platform = compiled(two(policy), accelerator="nvidia.com/gpu")
    resources = container(pipeline, "first")["resources"]
    assert (resources["resourceCpuLimit"], resources["resourceCpuRequest"]) == ("1.5", "1.5")
    assert (resources["resourceMemoryLimit"], resources["resourceMemoryRequest"]) == ("2048Mi", "2048Mi")
    assert resources["accelerator"] == {
        "count": "2", "resourceCount": "2", "resourceType": "nvidia.com/gpu", "type": "nvidia.com/gpu"
    }  # fmt: skip
    retry = pipeline["root"]["dag"]["tasks"]["first"]["retryPolicy"]
    assert (retry["maxRetryCount"], retry["backoffDuration"], retry["backoffFactor"]) == (3, "20s", 1.0)
    pod = platform["exec-first"]
    assert pod["activeDeadlineSeconds"] == str(91 + GRACE)
    assert pod["nodeSelector"] == {"labels": {"disk": "fast"}}
    assert [taint["key"] for taint in pod["tolerations"]] == ["gpu", "spot"]
    assert "exec-second" not in platform


def test_secrets_are_references() -> None:
    """A node gets a Secret's key as a variable; the package has their names and no value."""
    _, platform = compiled(two(), secrets={"lake": {"key": "LAKE_KEY"}}, config_maps={"hosts": {"s3": "S3_URL"}})
    for pod in platform.values():
        assert pod["secretAsEnv"][0]["secretName"] == "lake"
        assert pod["secretAsEnv"][0]["keyToEnv"] == [{"secretKey": "key", "envVar": "LAKE_KEY"}]
        assert pod["configMapAsEnv"][0]["keyToEnv"] == [{"configMapKey": "s3", "envVar": "S3_URL"}]


@pytest.mark.parametrize(
    ("policy", "word"),
    [(Policy(gpu=1), "GPUs"), (Policy(retries=1, retry_delay=0.5), "0.5 s")],
)
def test_what_kubeflow_cannot_honour_is_refused_with_file_and_line(policy: Policy, word: str) -> None:
    """Before anything runs, naming where the DAG says so and what to change."""
    with pytest.raises(DagError) as caught:
        compiled(two(policy))
    assert f"{__file__}:{two.__code__.co_firstlineno + 4}: step 'first'" in caught.value.problem
    assert word in caught.value.problem
    assert caught.value.accepted
    assert caught.value.next_step


@pytest.mark.parametrize(
    "policy", [Policy(node_selector={"disk": "fast"}), Policy(tolerations=(Toleration(key="spot", operator="Exists"),))]
)
def test_engines_without_kubernetes_refuse_its_nodes(policy: Policy) -> None:
    """A laptop has no node of that label; the error names file and line, and the engine that can."""
    with pytest.raises(DagError, match=r"test_kubeflow_compile.py:\d+: step 'first'.*kubeflow"):
        local.check_resources(two(policy))


def test_a_profile_without_an_image_is_told_so() -> None:
    """The error says how to get one and where to name it."""
    with pytest.raises(ConfigError, match=r"make image.*config/profiles/test.yaml"):
        compile_dag(two(), "small", "test", Kubeflow())


def test_records_show_up_as_typed_artifacts(small: Path) -> None:
    """In Kubeflow's pages data are datasets, models are models, numbers are metrics and pages are HTML."""
    pipeline = yaml.safe_load(compile_dag(lifecycle_of("small", "test"), "small", "test", Kubeflow(image=IMAGE)))
    found = {
        node: {
            name: kind["artifactType"]["schemaTitle"] for name, kind in given["outputDefinitions"]["artifacts"].items()
        }
        for node, given in ((name[5:], given) for name, given in pipeline["components"].items())
        if "artifacts" in given["outputDefinitions"]
    }
    data, model, metrics, page = ({"data": "system.Dataset"}, {"model": "system.Model"}, {"metrics": "system.Metrics"},
                                  {"page": "system.HTML"})  # fmt: skip
    assert found == {
        "ingest": data, "validate": metrics | page, "publish": data, "prepare": data, "train-00": metrics | page,
        "train-01": metrics | page, "evaluate": metrics, "register": model, "export": model, "qualify": metrics,
    }  # fmt: skip


def test_packages_are_not_stale() -> None:
    """What lies under deploy/kubeflow is what the projects compile to now, whatever Python's hash seed."""
    projects = sorted(path.parent.name for path in (ROOT / "config" / "projects").glob("*/project.yaml"))
    assert [path.stem for path in sorted((ROOT / "deploy" / "kubeflow").glob("*.yaml"))] == projects
    for project in projects:
        path = ROOT / "deploy" / "kubeflow" / f"{project}.yaml"
        command = [sys.executable, "-c", "from flows.cli import main; main()", "kubeflow", "compile", project]
        environment = {
            "TRILHA_ROOT": str(ROOT),
            "PYTHONHASHSEED": "7",
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
        }
        done = subprocess.run(
            [*command, "--output", "/dev/stdout"], env=environment, capture_output=True, text=True, check=True, cwd=ROOT
        )
        now = done.stdout.rpartition("/dev/stdout: ")[0]
        assert now == path.read_text(), f"{path.name} is stale: trilha kubeflow compile {project}"
