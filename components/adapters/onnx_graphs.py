"""A fitted model as three graphs, and answers from them in this process.

    pre     each input `[rows, width]`, string or float32  ->  `features`  [rows, F] float32
    model   `features`                                     ->  `scores`    [rows, K] float32, [rows, 1] of a regression
    post    `scores`                                       ->  the task's answer, see `components.answers`

Converters are not trusted: some yield wrong probabilities without an error, so whoever writes graphs compares them with
the framework's own answers. The same model makes the same bytes in every process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.adapters.converters import answer_of, graph_of
from components.adapters.model_files import opened
from components.adapters.onnx_build import chained, made, renamed, tensor
from components.answers import LABEL, NUMBERS, shown
from components.errors import ConfigError, GateError
from components.model_inputs import width
from components.python_part import SUFFIX, is_part, keep
from components.python_part import opened as opened_part

if TYPE_CHECKING:
    import numpy.typing as npt
    from onnx import ModelProto, ValueInfoProto


def write_graphs(
    pre: Any,
    model: Any,
    threshold: float,
    features: Mapping[str, str],
    paths: tuple[Path, Path, Path],
    task: str = "binary",
    classes: Sequence[Any] = (0, 1),
    post: Any = None,
    modules: Sequence[Path] = (),
) -> tuple[Path, Path, Path]:
    """Convert a fitted model and write its three graphs; returns where they are.

    What is a class of the project's own (`components.python_part`) is no graph, and is written as `.zip` in its place.

    Args:
        pre: a part (see `components.adapters.converters`) that turns the inputs into `features`; None: numbers go in
            as they are.
        model: a part that turns `features` into a probability for each class, or into one value.
        threshold: of a binary task: the probability from which on the label is 1.
        features: input column -> `string`, `double`, `bigint` or `double[N]`.
        paths: where `pre`, `model` and `post` go.
        task: what the model answers.
        classes: of the answer's probabilities, in order.
        post: a part from scores to scores, between the model and the answer.
        modules: the files that a class of the project's own may come from.

    Raises:
        ConfigError: a part is of a kind that is not converted, or the model has other classes.
    """
    pre, model, post = opened(pre), opened(model), opened(post)
    check_classes(model, task, classes)
    given = raw_inputs(features)
    before = _passed_on(given) if pre is None else _written(pre, given, "features", modules, paths[0])
    features_from, pre_path = _kept(before, paths[0])
    scores_from, model_path = _kept(_written(model, features_from, "scores", modules, paths[1]), paths[1])
    answer = _answer_graph(task, classes, threshold)
    if post is not None:
        answer = chained([graph_of(post, scores_from, "scored"), renamed(answer, "", {"scores": "scored"})], "post")
    return pre_path, model_path, _kept(answer, paths[2])[1]


def _written(
    part: Any, given: Sequence[ValueInfoProto], output: str, modules: Sequence[Path], path: Path
) -> ModelProto | list[ValueInfoProto]:
    """The graph of a part; of a class of the project's own, which is written, the tensor that it yields."""
    from onnx import TensorProto

    if not is_part(part):
        return graph_of(part, given, output)
    keep(part, given, output, modules, path.with_suffix(SUFFIX))
    return [tensor(output, TensorProto.FLOAT, part.width)]


def _kept(made_of: ModelProto | list[ValueInfoProto], path: Path) -> tuple[list[ValueInfoProto], Path]:
    """What a place yields, and its file; that of an earlier attempt of the other kind goes."""
    other = path.with_suffix(SUFFIX)
    if isinstance(made_of, list):
        path.unlink(missing_ok=True)
        return made_of, other
    other.unlink(missing_ok=True)
    path.write_bytes(made_of.SerializeToString(deterministic=True))
    return list(made_of.graph.output), path


def own_scores(pre: Any, model: Any, post: Any, inputs: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """What the frameworks themselves make of inputs: the scores that the task's answer is made of."""
    from components.adapters.converters import dense, joined

    features = joined(inputs) if pre is None else answer_of(opened(pre), inputs)
    scores = answer_of(opened(model), {"features": features})
    return dense(scores if post is None else answer_of(opened(post), {"scores": scores}))


def check_classes(model: Any, task: str, classes: Sequence[Any]) -> None:
    """Refuse a model that knows other classes than the project's; one that numbers them knows them by place.

    Raises:
        ConfigError: it does.
    """
    last = model[-1] if isinstance(model, list | tuple) else model
    known = getattr(last, "classes_", None)
    if task == "regression" and known is not None:
        raise ConfigError(f"{type(last).__name__} is a classifier", accepted="a regressor")
    if task != "regression" and (known is not None or hasattr(last, "n_features_in_")):
        found = [one.item() if hasattr(one, "item") else one for one in ([] if known is None else known)]
        if found not in (list(classes), list(range(len(classes)))):
            words = "0 and 1" if task == "binary" else shown(classes)
            raise ConfigError(
                f"{type(last).__name__} knows the classes {shown(found) or 'none yet'}",
                accepted=f"a fitted classifier of {words}",
            )


def session(path: Path | bytes) -> Any:
    """An ONNX Runtime session that makes the same sums on every machine."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run_graphs(paths: Sequence[Path], inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Run graphs one after the other, each on what the one before it yields; returns what the last one does.

    Args:
        paths: pre, model, post.
        inputs: as `components.model_inputs` makes them; those that no graph asks for are left out.

    Raises:
        GateError: a graph asks for an input that is not there, or fails on these rows; names the graph.
    """
    values = dict(inputs)
    for path in paths:
        try:
            values = _run(path, values)
        except KeyError as error:
            raise GateError(f"{path.name} asks for an input {error}", accepted=", ".join(sorted(values))) from error
        except Exception as error:  # ONNX Runtime's errors have no common class
            raise GateError(f"{path.name}: {error}", next_step="look at how the notebook fits it") from error
    return values


def _run(path: Path, values: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    if path.suffix == SUFFIX:
        part = opened_part(path)
        names, wanted, run = [part.about["output"]], list(part.about["inputs"]), part.run
    else:
        own = session(path)
        names, wanted = [node.name for node in own.get_outputs()], [node.name for node in own.get_inputs()]
        run = own.run
    return dict(zip(names, run(names, {name: values[name] for name in wanted}), strict=True))


def fuse(paths: Sequence[Path]) -> bytes:
    """Several graphs, each fed by name from the one before it, as one.

    Raises:
        ConfigError: one is no graph.
    """
    import onnx

    odd = next((path for path in paths if path.suffix == SUFFIX), None)
    if odd is not None:
        raise ConfigError(f"serve.join: fused, and `{odd.stem}` is a Python class", accepted="ensemble")

    whole: bytes = chained([onnx.load(path) for path in paths], "fused").SerializeToString(deterministic=True)
    return whole


def graph_inputs(path: Path) -> list[str]:
    """The names of a graph's inputs."""
    import onnx

    return [node.name for node in onnx.load(path).graph.input]


# --- graphs of our own ------------------------------------------------------------------------------------------------


def raw_inputs(features: Mapping[str, str]) -> list[ValueInfoProto]:
    """The tensors of a project's inputs."""
    from onnx import TensorProto

    return [
        tensor(name, TensorProto.STRING if kind == "string" else TensorProto.FLOAT, width(kind))
        for name, kind in features.items()
    ]


def _passed_on(given: Sequence[ValueInfoProto]) -> ModelProto:
    """Numbers side by side, as they are."""
    from onnx import TensorProto, helper

    texts = [info.name for info in given if info.type.tensor_type.elem_type == TensorProto.STRING]
    if texts:
        raise ConfigError(
            f"no `pre`, and {', '.join(texts)} is text",
            accepted="a part that turns it into numbers",
            next_step="t.save(pre=..., model=...)",
        )
    node = helper.make_node("Concat", [info.name for info in given], ["features"], axis=1)
    total = sum(info.type.tensor_type.shape.dim[1].dim_value for info in given)
    return made("pre", [node], given, [tensor("features", TensorProto.FLOAT, total)])


def _answer_graph(task: str, classes: Sequence[Any], threshold: float) -> ModelProto:
    """From scores to the task's answer."""
    from onnx import TensorProto, helper

    numbers = NUMBERS[task]
    if task == "regression":
        node = helper.make_node("Identity", ["scores"], [numbers])
        scores, answer = (tensor(name, TensorProto.FLOAT, 1) for name in ("scores", numbers))
        return made("post", [node], [scores], [answer])
    scores = tensor("scores", TensorProto.FLOAT, len(classes))
    if task == "binary":
        nodes = [
            helper.make_node("Gather", ["scores", "positive"], [numbers], axis=1),
            helper.make_node("GreaterOrEqual", [numbers, "threshold"], ["above"]),
            helper.make_node("Cast", ["above"], [LABEL], to=TensorProto.INT64),
        ]
        outputs = [tensor(numbers, TensorProto.FLOAT, 1), tensor(LABEL, TensorProto.INT64, 1)]
        constants = [
            helper.make_tensor("positive", TensorProto.INT64, [1], [1]),
            helper.make_tensor("threshold", TensorProto.FLOAT, [1], [threshold]),
        ]
        return made("post", nodes, [scores], outputs, constants)
    kind = TensorProto.STRING if isinstance(classes[0], str) else TensorProto.INT64
    values = [one.encode() for one in classes] if kind == TensorProto.STRING else list(classes)
    nodes = [
        helper.make_node("Identity", ["scores"], [numbers]),
        helper.make_node("ArgMax", ["scores"], ["place"], axis=1, keepdims=1),
        helper.make_node("Gather", ["classes", "place"], [LABEL], axis=0),
    ]
    outputs = [tensor(numbers, TensorProto.FLOAT, len(classes)), tensor(LABEL, kind, 1)]
    return made("post", nodes, [scores], outputs, [helper.make_tensor("classes", kind, [len(values)], values)])
