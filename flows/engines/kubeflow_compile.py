"""A DAG as a Kubeflow pipeline: one IR YAML in which a node is one container.

A node's container runs `python -m components STEP` on the project's image. Records travel as parameters: JSON text,
because a parameter of type STRUCT would turn integers into floats. Guards are inputs like others, so a node behind a
gate that did not pass starts, sees that, and its record says that it was skipped; the same on every engine.
"""

from __future__ import annotations

import inspect
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kfp import dsl, kubernetes
from kfp.compiler import Compiler

from components.calls import PackedCall
from components.errors import ConfigError, DagError
from components.kubeflow_outputs import kinds
from components.profile import Kubeflow
from flows.dag import Dag, Node
from flows.packing import packed

GRACE = 300
"""Seconds that a pod gets beyond its step's timeout, to be scheduled and to pull its image; the step has no more."""

DESCRIPTION = """The DAG `{dag}` of project `{project}`, on profile `{profile}`.

Args:
    run: The id of the run in Trilha's own record; empty: made of the time and the id of Kubeflow's run.
"""


def compile_dag(dag: Dag, project: str, profile: str, settings: Kubeflow) -> str:
    """The IR of `dag` as YAML: the same text for the same input.

    Args:
        dag: the traced DAG.
        project: its name.
        profile: the name of the profile that the nodes run with.
        settings: that profile's section `kubeflow`.

    Raises:
        ConfigError: the profile names no image.
        DagError: a policy that Kubeflow cannot honour; names the node's file and line.
    """
    if settings.image is None:
        raise ConfigError(
            f"profile {profile!r} names no image",
            accepted="`kubeflow: {image: REGISTRY/trilha:TAG}`",
            next_step=f"make image, then name it in config/profiles/{profile}.yaml",
        )
    for node in dag.nodes:
        _check(node, profile, settings)

    def pipeline(run: str = "") -> None:
        tasks: dict[str, dsl.PipelineTask] = {}
        for node in dag.nodes:
            call = packed(dag, node)
            component = dsl.container_component(_container(call, dag.name, project, profile, str(settings.image)))
            task = tasks[node.name] = component(
                run=run,
                created=dsl.PIPELINE_JOB_CREATE_TIME_UTC_PLACEHOLDER,
                job=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
                **{_input(name): tasks[name].outputs["record"] for name in call.needs},
            )
            _equip(task, node, settings)

    pipeline.__annotations__ = {"run": str}  # Kubeflow's SDK looks for the type itself, and here is its name
    pipeline.__doc__ = DESCRIPTION.format(dag=dag.name, project=project, profile=profile)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        Compiler().compile(dsl.pipeline(pipeline, name=f"{project}-{dag.name}"), str(path))
        return path.read_text()


def _check(node: Node, profile: str, settings: Kubeflow) -> None:
    """Refuse what Kubeflow cannot honour."""
    policy, where = node.policy, f"{node.line}: step {node.name!r}"
    if policy.gpu and settings.accelerator is None:
        raise DagError(
            f"{where} asks for {policy.gpu} GPUs, and profile {profile!r} does not say of what kind",
            accepted="`kubeflow: {accelerator: nvidia.com/gpu}`, say",
            next_step=f"name it in config/profiles/{profile}.yaml",
        )
    if policy.retries and policy.retry_delay != int(policy.retry_delay):
        raise DagError(
            f"{where} is to be tried again after {policy.retry_delay:g} s",
            accepted="whole seconds on Kubeflow",
            next_step=f"change policy.{node.step.__name__}.retry_delay in project.yaml",
        )


def _input(node: str) -> str:
    """The name of the parameter that a node's record is passed as."""
    return f"{node.replace('-', '_')}_record"


def _container(call: PackedCall, dag: str, project: str, profile: str, image: str) -> Callable[..., dsl.ContainerSpec]:
    """The function that Kubeflow's SDK makes a component of: its signature says what goes in and out."""
    artifacts = kinds(call.step)
    kinds_of: dict[str, Any] = dict.fromkeys(("run", "created", "job", *map(_input, call.needs)), str)
    kinds_of["record"] = dsl.OutputPath(str)
    kinds_of |= {name: dsl.Output[getattr(dsl, kind)] for name, kind in artifacts.items()}

    def container(*values: Any) -> dsl.ContainerSpec:
        given = dict(zip(kinds_of, values, strict=True))
        arguments: list[Any] = [call.step_name, "--call", _plain(call.model_dump_json())]
        arguments += ["--dag", dag, "--project", project, "--profile", profile]
        for name in ("run", "created", "job"):
            arguments += [f"--{name}", given[name]]
        for name in call.needs:
            arguments += ["--record", name, given[_input(name)]]
        for name in artifacts:
            arguments += ["--artifact", name, given[name].path]
        arguments += ["--summary", dsl.PIPELINE_TASK_EXECUTOR_OUTPUT_PATH_PLACEHOLDER, "--output", given["record"]]
        return dsl.ContainerSpec(image=image, command=["python", "-m", "components"], args=arguments)

    either = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, either, annotation=kind) for name, kind in kinds_of.items()]
    container.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what inspect looks at
    container.__name__ = call.name
    container.__doc__ = call.step.__doc__
    return container


def _plain(text: str) -> str:
    """JSON in which nothing looks like a placeholder of Kubeflow's; it reads the same."""
    return text.replace("{{", "{\\u007b")


def _equip(task: dsl.PipelineTask, node: Node, settings: Kubeflow) -> None:
    """What the node's policy and the profile ask of the cluster."""
    policy = node.policy
    task.set_display_name(node.name)
    task.set_caching_options(enable_caching=False)  # the ledger is the one place where work is remembered
    if policy.cpu is not None:
        task.set_cpu_request(f"{policy.cpu:g}").set_cpu_limit(f"{policy.cpu:g}")
    if policy.memory_mb is not None:
        task.set_memory_request(f"{policy.memory_mb}Mi").set_memory_limit(f"{policy.memory_mb}Mi")
    if policy.gpu:
        task.set_accelerator_type(str(settings.accelerator)).set_accelerator_limit(policy.gpu)
    if policy.retries:
        task.set_retry(policy.retries, backoff_duration=f"{policy.retry_delay:.0f}s", backoff_factor=1.0)
    if policy.timeout is not None:
        kubernetes.set_timeout(task, math.ceil(policy.timeout) + GRACE)
    for label, value in {**settings.pools.get(node.pool or "", {}), **policy.node_selector}.items():
        kubernetes.add_node_selector(task, label, value)
    for toleration in policy.tolerations:
        kubernetes.add_toleration(task, **toleration.model_dump())
    for secret, variables in settings.secrets.items():
        kubernetes.use_secret_as_env(task, secret, variables)
    for config_map, variables in settings.config_maps.items():
        kubernetes.use_config_map_as_env(task, config_map, variables)
