"""ONNX graphs as they leave here: one output with a name of ours, no random names, no paths; and several made one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

    Model: TypeAlias = ModelProto
    Info: TypeAlias = ValueInfoProto

FLOAT, INT64, STRING = 1, 7, 8
"""Types of tensors, as ONNX numbers them."""
OPSET = {"": 15, "ai.onnx.ml": 3}
"""The newest that every converter here knows, and old enough for the ONNX Runtime of any Triton still in use."""
IR_VERSION = 8
LATER_IR = {16: 8, 19: 9, 21: 10}
"""Newest opset -> the IR version that goes with it (https://github.com/onnx/onnx/blob/main/docs/Versioning.md)."""


def tensor(name: str, kind: int, width: int | None) -> ValueInfoProto:
    """What a graph takes or yields: `[rows, width]`; a width of None is not known."""
    from onnx import helper

    return helper.make_tensor_value_info(name, kind, [None, width])


def made(
    title: str,
    nodes: Sequence[NodeProto],
    given: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    constants: Sequence[Any] = (),
    opset: Mapping[str, int] | None = None,
) -> ModelProto:
    """A model of nodes of our own, checked."""
    import onnx
    from onnx import helper

    versions = dict(opset or {"": OPSET[""]})
    graph = helper.make_graph(list(nodes), title, list(given), list(outputs), list(constants))
    model = helper.make_model(
        graph,
        producer_name="trilha",
        ir_version=_ir_version(versions[""]),
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in sorted(versions.items())],
    )
    onnx.checker.check_model(model)
    return model


def finished(graph: ModelProto, title: str, *, output: str, name: str, kind: int | None = None) -> ModelProto:
    """`graph` with one output, called `name`, and without what converters leave behind: unused nodes, random names."""
    import onnx
    from onnx import TensorProto, helper

    wanted, kept = {output}, []
    for node in reversed(graph.graph.node):
        if wanted & set(node.output):
            wanted |= _read_by(node)
            kept.append(node)
    for node in kept:
        del node.metadata_props[:]  # torch keeps source lines there
        node.doc_string = ""
        for names in (node.input, node.output):
            names[:] = [name if one == output else one for one in names]
    versions: dict[str, int] = {}  # skl2onnx may name a domain twice
    for entry in graph.opset_import:
        versions[entry.domain] = max(entry.version, versions.get(entry.domain, 0))
    whole = helper.make_model(
        helper.make_graph(
            kept[::-1],
            title,
            [_plain(info) for info in graph.graph.input],
            [helper.make_tensor_value_info(name, kind or TensorProto.FLOAT, [None, None])],
            [tensor for tensor in graph.graph.initializer if tensor.name in wanted],
        ),
        producer_name=graph.producer_name,
        producer_version=graph.producer_version,
        ir_version=_ir_version(versions.get("", 1)),
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in sorted(versions.items())],
    )
    onnx.checker.check_model(whole)
    return whole


def renamed(model: ModelProto, inner: str, names: Mapping[str, str]) -> ModelProto:
    """`model` with inner names under the prefix `inner`, and some of what it takes and yields under other names."""
    from onnx import compose

    copy = compose.add_prefix(model, inner, rename_inputs=False, rename_outputs=False)
    for info in (*copy.graph.input, *copy.graph.output):
        info.name = names.get(info.name, info.name)
    for node in copy.graph.node:
        for ends in (node.input, node.output):
            ends[:] = [names.get(one, one) for one in ends]
    return copy


def chained(graphs: Sequence[ModelProto], title: str) -> ModelProto:
    """One graph that does what several do, each fed from the one before it by the names of its inputs."""
    import onnx
    from onnx import compose, helper

    if len(graphs) == 1:
        return graphs[0]
    newest = {
        domain: max(entry.version for graph in graphs for entry in graph.opset_import if entry.domain == domain)
        for domain in {entry.domain for graph in graphs for entry in graph.opset_import}
    }
    parts = [_aligned(graph, newest, f"{place}/") for place, graph in enumerate(graphs)]
    whole = parts[0]
    for part in parts[1:]:
        links = [(info.name, info.name) for info in part.graph.input]
        whole = compose.merge_models(whole, part, io_map=links, outputs=[info.name for info in part.graph.output])
    final = helper.make_model(
        whole.graph,
        producer_name="trilha",
        ir_version=_ir_version(newest[""]),
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in sorted(newest.items())],
    )
    final.graph.name = title
    del final.graph.value_info[:]
    onnx.checker.check_model(final)
    return final


def _aligned(graph: ModelProto, newest: Mapping[str, int], prefix: str) -> ModelProto:
    """`graph` in the newest operator sets, its inner names under a prefix; what it takes and yields keeps its name."""
    from onnx import compose, version_converter

    current = {entry.domain: entry.version for entry in graph.opset_import}
    if current.get("", newest[""]) != newest[""]:
        graph = version_converter.convert_version(graph, newest[""])
    graph = compose.add_prefix(graph, prefix, rename_inputs=False, rename_outputs=False)
    graph.ir_version = _ir_version(newest[""])
    del graph.opset_import[:]
    for domain, version in newest.items():
        graph.opset_import.add(domain=domain, version=version)
    return graph


def _ir_version(opset: int) -> int:
    return next((version for newest, version in LATER_IR.items() if opset < newest), max(LATER_IR.values()))


def _plain(info: ValueInfoProto) -> ValueInfoProto:
    del info.metadata_props[:]
    return info


def _read_by(node: NodeProto) -> set[str]:
    """The names that a node reads, those that graphs inside it (of a loop, say) read from outside included."""
    inner: set[str] = set()
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            inner |= _read_inside(graph)
    return set(node.input) | inner


def _read_inside(graph: GraphProto) -> set[str]:
    return {name for node in graph.node for name in _read_by(node)}
