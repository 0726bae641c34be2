from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa

from components.model_inputs import column_tensor, frame_to_tensors, tensors_to_inputs, to_frame, to_tensors

FEATURES = {"city": "string", "weight": "double", "seats": "bigint"}
TABLE = pa.table(
    {
        "id": [1, 2, 3],
        "city": ["north", None, ""],
        "seats": [2**24 + 1, None, 3],
        "weight": [0.1, None, float("nan")],
        "sent": [date(2024, 1, 1)] * 3,
    }
)


def test_missing_values() -> None:
    """A missing text is the empty string, a missing number is NaN."""
    tensors = to_tensors(TABLE, FEATURES)
    assert tensors["city"].ravel().tolist() == ["north", "", ""]
    assert np.isnan(tensors["weight"].ravel()).tolist() == [False, True, True]
    assert np.isnan(tensors["seats"].ravel()).tolist() == [False, True, False]


def test_numbers_are_32_bit_floats() -> None:
    """A double and a bigint become the nearest 32-bit float."""
    tensors = to_tensors(TABLE, FEATURES)
    assert {tensors[name].dtype for name in ("weight", "seats")} == {np.dtype(np.float32)}
    assert tensors["weight"][0, 0] == np.float32(0.1)
    assert tensors["seats"][0, 0] == np.float32(2**24)


def test_shape() -> None:
    """Each input is a tensor of its own, one column wide."""
    assert {tensor.shape for tensor in to_tensors(TABLE, FEATURES).values()} == {(3, 1)}


def test_learning_and_serving_see_the_same() -> None:
    """The frame that a notebook learns from and the tensors that a server gets hold the same values."""
    served = to_tensors(TABLE, FEATURES)
    for name, learned in frame_to_tensors(to_frame(TABLE, FEATURES), list(FEATURES)).items():
        assert learned.dtype == served[name].dtype
        np.testing.assert_array_equal(learned, served[name])


def test_other_columns_stay() -> None:
    """The frame keeps every column, in order, and what is not a feature as it is."""
    frame = to_frame(TABLE, FEATURES)
    assert list(frame.columns) == TABLE.column_names
    assert frame["id"].tolist() == [1, 2, 3]
    assert str(frame["sent"].dt.date[0]) == "2024-01-01"


def test_parts_of_a_table() -> None:
    """A table in many chunks, some empty, is read as a whole."""
    chunked = pa.concat_tables([TABLE, TABLE.slice(0, 0), TABLE])
    assert to_tensors(chunked, FEATURES)["city"].ravel().tolist() == ["north", "", ""] * 2
    assert len(to_frame(TABLE.slice(0, 0), FEATURES)) == 0


def test_arrays() -> None:
    """An array is one tensor as wide as it is long, the same from a table, a frame, and rows as people write them."""
    numbers = [[1.0, 2.0], [float("nan")] * 2, [0.1, float("nan")]]
    table = pa.table({"id": [1, 2, 3], "pixels": pa.array(numbers, pa.list_(pa.float64(), 2))})
    kinds = {"pixels": "double[2]"}
    tensor = to_tensors(table, kinds)["pixels"]
    assert (tensor.shape, tensor.dtype) == ((3, 2), np.dtype(np.float32))
    np.testing.assert_array_equal(frame_to_tensors(to_frame(table, kinds), ["pixels"])["pixels"], tensor)
    np.testing.assert_array_equal(column_tensor([[1.0, 2.0], None, [0.1, None]], "double[2]"), tensor)


def test_what_a_model_is_fitted_on() -> None:
    """Columns are a frame with their names; one array alone is the matrix that it is."""
    frame = tensors_to_inputs(to_tensors(TABLE, FEATURES))
    assert list(frame.columns) == list(FEATURES)
    matrix = np.eye(3, dtype=np.float32)
    assert tensors_to_inputs({"pixels": matrix}) is matrix
