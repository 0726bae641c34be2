"""A fitted model as three ONNX graphs, and answers from them in this process.

    pre     each input `[rows, 1]`, string or float32  ->  `features`     [rows, F] float32
    model   `features`                                 ->  `scores`       [rows, 2] float32
    post    `scores`                                   ->  `probability`  [rows, 1] float32, `label` [rows, 1] int64

Converters are not trusted: some yield wrong probabilities without an error, so whoever writes graphs compares them with
the framework's own answers. The same model makes the same bytes in every process.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.errors import ConfigError, GateError, TrilhaError

if TYPE_CHECKING:
    import numpy.typing as npt
    from lightgbm import Booster, LGBMClassifier
    from onnx import ModelProto

OPSET = {"": 15, "ai.onnx.ml": 3}
"""The newest that every converter here knows, and old enough for the ONNX Runtime of any Triton still in use."""
IR_VERSION = 8


def write_graphs(
    pre: Any, model: Any, threshold: float, features: Mapping[str, str], paths: tuple[Path, Path, Path]
) -> None:
    """Convert a fitted pair and write its three graphs.

    Args:
        pre: a scikit-learn transformer, fitted on a frame with the columns `features`.
        model: a scikit-learn or LightGBM classifier of the classes 0 and 1, fitted on what `pre` yields.
        threshold: the probability from which on the label is 1.
        features: input column -> `string`, `double` or `bigint`.
        paths: where `pre`, `model` and `post` go.

    Raises:
        ConfigError: a part is of a kind that is not converted, or the model has other classes.
    """
    classes = list(getattr(model, "classes_", ()))
    if classes != [0, 1]:
        raise ConfigError(
            f"{type(model).__name__} knows the classes {', '.join(map(str, classes)) or 'none yet'}",
            accepted="a fitted classifier of 0 and 1",
        )
    try:
        graphs = _pre_graph(pre, features), _model_graph(model), _post_graph(threshold)
    except TrilhaError:
        raise
    except Exception as error:  # the converters' errors have no common class
        raise ConfigError(
            f"no conversion to ONNX: {str(error).strip().splitlines()[0]}",
            accepted="transformers and classifiers that skl2onnx or onnxmltools know",
            next_step="use another one in the notebook, or do that work in features.sql",
        ) from error
    for graph, path in zip(graphs, paths, strict=True):
        path.write_bytes(graph.SerializeToString(deterministic=True))


def run_graphs(paths: Sequence[Path], inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Run graphs one after the other, each on what the one before it yields; returns what the last one does.

    Args:
        paths: pre, model, post.
        inputs: as `components.model_inputs` makes them; those that no graph asks for are left out.

    Raises:
        GateError: a graph asks for an input that is not there, or fails on these rows; names the graph.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # the same sums on every machine
    options.log_severity_level = 4
    values = dict(inputs)
    for path in paths:
        try:
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            wanted = [node.name for node in session.get_inputs()]
            names = [node.name for node in session.get_outputs()]
            values = dict(zip(names, session.run(names, {name: values[name] for name in wanted}), strict=True))
        except KeyError as error:
            raise GateError(f"{path.name} asks for an input {error}", accepted=", ".join(sorted(values))) from error
        except Exception as error:  # ONNX Runtime's errors have no common class
            raise GateError(f"{path.name}: {error}", next_step="look at how the notebook fits it") from error
    return values


def graph_inputs(path: Path) -> list[str]:
    """The names of a graph's inputs."""
    import onnx

    return [node.name for node in onnx.load(path).graph.input]


# --- conversion -------------------------------------------------------------------------------------------------------


def _pre_graph(pre: Any, features: Mapping[str, str]) -> ModelProto:
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    kinds = {name: StringTensorType if kind == "string" else FloatTensorType for name, kind in features.items()}
    graph = convert_sklearn(
        pre, initial_types=[(name, kind([None, 1])) for name, kind in kinds.items()], target_opset=OPSET
    )
    return _finished(graph, "pre", output=graph.graph.output[0].name, name="features")


def _model_graph(model: Any) -> ModelProto:
    family = type(model).__module__.split(".", 1)[0]
    if family == "sklearn":
        from skl2onnx import convert_sklearn
        from skl2onnx.common.data_types import FloatTensorType

        types = [("features", FloatTensorType([None, model.n_features_in_]))]
        graph = convert_sklearn(model, initial_types=types, target_opset=OPSET, options={"zipmap": False})
    elif family == "lightgbm":
        from onnxmltools import convert_lightgbm
        from onnxmltools.convert.common.data_types import FloatTensorType

        types = [("features", FloatTensorType([None, model.n_features_in_]))]
        graph = convert_lightgbm(_with_float32_cuts(model), initial_types=types, target_opset=OPSET[""], zipmap=False)
    else:
        raise ConfigError(
            f"no conversion to ONNX for {type(model).__module__}.{type(model).__name__}",
            accepted="a classifier of scikit-learn or LightGBM",
        )
    return _finished(graph, "model", output="probabilities", name="scores")


def _with_float32_cuts(model: LGBMClassifier) -> Booster:
    """The same function of 32-bit inputs, made of cuts that are 32-bit floats.

    LightGBM cuts between two values in 64 bits. The converter rounds the cut to the nearest 32-bit float, which may be
    the upper value, and its rows change sides. Rounded down, the cut parts the same rows: x <= cut, for each float32 x.
    """
    import lightgbm

    text = model.booster_.model_to_string()
    text = re.sub(r"^tree_sizes=.*\n", "", text, flags=re.MULTILINE)  # byte counts, which no longer hold
    text = re.sub(r"^threshold=(.*)$", lambda found: f"threshold={_rounded_down(found[1])}", text, flags=re.MULTILINE)
    return lightgbm.Booster(model_str=text)


def _rounded_down(numbers: str) -> str:
    import numpy as np

    exact = np.array(numbers.split(), dtype=np.float64)
    near = exact.astype(np.float32)
    down = np.where(near > exact, np.nextafter(near, np.float32(-np.inf)), near)
    return " ".join(repr(float(number)) for number in down)


def _post_graph(threshold: float) -> ModelProto:
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Gather", ["scores", "positive"], ["probability"], axis=1),
        helper.make_node("GreaterOrEqual", ["probability", "threshold"], ["above"]),
        helper.make_node("Cast", ["above"], ["label"], to=TensorProto.INT64),
    ]
    graph = helper.make_graph(
        nodes,
        "post",
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, 2])],
        [
            helper.make_tensor_value_info("probability", TensorProto.FLOAT, [None, 1]),
            helper.make_tensor_value_info("label", TensorProto.INT64, [None, 1]),
        ],
        [
            helper.make_tensor("positive", TensorProto.INT64, [1], [1]),
            helper.make_tensor("threshold", TensorProto.FLOAT, [1], [threshold]),
        ],
    )
    return helper.make_model(
        graph, producer_name="trilha", ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET[""])]
    )


def _finished(graph: ModelProto, title: str, *, output: str, name: str) -> ModelProto:
    """`graph` with one output, called `name`, and without what converters leave behind: unused nodes, random names."""
    import onnx
    from onnx import TensorProto, helper

    wanted, kept = {output}, []
    for node in reversed(graph.graph.node):
        if wanted & set(node.output):
            wanted |= set(node.input)
            kept.append(node)
    for node in kept:
        for names in (node.input, node.output):
            names[:] = [name if one == output else one for one in names]
    versions: dict[str, int] = {}  # skl2onnx may name a domain twice
    for entry in graph.opset_import:
        versions[entry.domain] = max(entry.version, versions.get(entry.domain, 0))
    finished = helper.make_model(
        helper.make_graph(
            kept[::-1],
            title,
            graph.graph.input,
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, None])],
            [tensor for tensor in graph.graph.initializer if tensor.name in wanted],
        ),
        producer_name=graph.producer_name,
        producer_version=graph.producer_version,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in sorted(versions.items())],
    )
    onnx.checker.check_model(finished)
    return finished
