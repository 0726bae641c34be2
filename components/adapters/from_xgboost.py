"""XGBoost to ONNX, from XGBoost's own JSON.

onnxmltools 1.16 reads the models of XGBoost 3 wrongly: it takes the start score, which is a list now, for another, and
its probabilities are off by up to 0.9. Here each tree becomes nodes of ONNX's TreeEnsembleRegressor one by one: a row
goes left where its value is less than the cut, in 32-bit floats on both sides, and a missing value goes where the tree
learned to send it.

Source: https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from components.adapters.converters import dense, joined
from components.adapters.onnx_build import OPSET, made, tensor
from components.errors import ConfigError

if TYPE_CHECKING:
    import numpy.typing as npt
    from onnx import ModelProto, NodeProto, ValueInfoProto

LOGISTIC: Final = ("binary:logistic", "reg:logistic")
CLASSES: Final = ("multi:softprob", "multi:softmax")
PLAIN: Final = ("reg:squarederror", "reg:absoluteerror", "reg:pseudohubererror", "reg:quantileerror")


class XGBoostConverter:
    """`XGBClassifier` and `XGBRegressor` of trees."""

    def graph(self, part: Any, given: Sequence[ValueInfoProto], output: str) -> ModelProto:
        from onnx import TensorProto, helper

        learner = json.loads(bytes(part.get_booster().save_raw("json")))["learner"]
        objective, trees, groups = _read(learner)
        starts = _starts(learner, objective)
        raw = helper.make_node(
            "TreeEnsembleRegressor",
            [given[0].name],
            ["raw"],
            domain="ai.onnx.ml",
            n_targets=len(starts),
            base_values=starts,
            post_transform="NONE",
            **_nodes(trees, groups),
        )
        nodes, count = _ending(objective, output, len(starts))
        constants = [helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])] if objective in LOGISTIC else []
        return made(
            "model",
            [raw, *nodes],
            [tensor(given[0].name, TensorProto.FLOAT, int(learner["learner_model_param"]["num_feature"]))],
            [tensor(output, TensorProto.FLOAT, count)],
            constants,
            OPSET,
        )

    def answer(self, part: Any, given: Mapping[str, npt.NDArray[Any]]) -> Any:
        inputs = dense(joined(given)).astype("float32")
        return part.predict_proba(inputs) if hasattr(part, "predict_proba") else dense(part.predict(inputs))


def _read(learner: Mapping[str, Any]) -> tuple[str, list[dict[str, Any]], list[int]]:
    """The objective, the trees up to the best iteration, and the target that each tree counts for.

    Raises:
        ConfigError: the model is not made of plain trees of numbers, or of an objective that is not known here.
    """
    booster, objective = learner["gradient_booster"], learner["objective"]["name"]
    if booster["name"] != "gbtree" or objective not in (*LOGISTIC, *CLASSES, *PLAIN):
        raise ConfigError(
            f"no conversion to ONNX for XGBoost's {booster['name']} with {objective}",
            accepted=f"gbtree with {', '.join((*LOGISTIC, *CLASSES, *PLAIN))}",
        )
    trees, groups = booster["model"]["trees"], booster["model"]["tree_info"]
    if any(any(tree["split_type"]) for tree in trees):
        raise ConfigError(
            "no conversion to ONNX for XGBoost's splits by category",
            accepted="splits of numbers",
            next_step="encode categories as numbers in `pre`, without enable_categorical",
        )
    best = learner.get("attributes", {}).get("best_iteration")
    if best is not None:  # what `predict` stops at after early stopping
        last = booster["model"]["iteration_indptr"][int(best) + 1]
        trees, groups = trees[:last], groups[:last]
    return objective, trees, groups


def _starts(learner: Mapping[str, Any], objective: str) -> list[float]:
    """The score of each target before any tree; XGBoost keeps it as the answer that it stands for."""
    kept = json.loads(learner["learner_model_param"]["base_score"])
    values = [float(one) for one in (kept if isinstance(kept, list) else [kept])]
    count = max(1, int(learner["learner_model_param"]["num_class"]))
    values = values * count if len(values) == 1 else values
    return [math.log(one / (1 - one)) for one in values] if objective in LOGISTIC else values


def _nodes(trees: Sequence[Mapping[str, Any]], groups: Sequence[int]) -> dict[str, Any]:
    """The attributes of ONNX's operator: every node of every tree, one after the other."""
    found: dict[str, Any] = {
        f"nodes_{name}": []
        for name in (
            "treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids",
            "missing_value_tracks_true",
        )
    } | {f"target_{name}": [] for name in ("treeids", "nodeids", "ids", "weights")}  # fmt: skip
    for number, (tree, group) in enumerate(zip(trees, groups, strict=True)):
        for node, left in enumerate(tree["left_children"]):
            leaf = left == -1
            found["nodes_treeids"].append(number)
            found["nodes_nodeids"].append(node)
            found["nodes_featureids"].append(0 if leaf else tree["split_indices"][node])
            found["nodes_modes"].append("LEAF" if leaf else "BRANCH_LT")
            found["nodes_values"].append(0.0 if leaf else tree["split_conditions"][node])
            found["nodes_truenodeids"].append(0 if leaf else left)
            found["nodes_falsenodeids"].append(0 if leaf else tree["right_children"][node])
            found["nodes_missing_value_tracks_true"].append(0 if leaf else int(tree["default_left"][node]))
            if leaf:
                found["target_treeids"].append(number)
                found["target_nodeids"].append(node)
                found["target_ids"].append(group)
                found["target_weights"].append(tree["split_conditions"][node])
    return found


def _ending(objective: str, output: str, targets: int) -> tuple[list[NodeProto], int]:
    """From raw scores to probabilities or values, and how many a row."""
    from onnx import helper

    if objective in LOGISTIC:
        return [
            helper.make_node("Sigmoid", ["raw"], ["positive"]),
            helper.make_node("Sub", ["one", "positive"], ["negative"]),
            helper.make_node("Concat", ["negative", "positive"], [output], axis=1),
        ], 2
    operator = "Softmax" if objective in CLASSES else "Identity"
    axis: dict[str, Any] = {"axis": 1} if objective in CLASSES else {}
    return [helper.make_node(operator, ["raw"], [output], **axis)], targets
