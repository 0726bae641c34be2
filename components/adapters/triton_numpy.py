"""Lets the Python backend of the `nvidia-pytriton` wheel work with NumPy 2; it runs inside the backend's stub.

The stub is built with a pybind11 that reads an array's item size where NumPy 1 kept it. With NumPy 2 it reads 0: every
array that it makes repeats its first item, every array that it is given has no bytes, and nothing complains. Two
repairs:

- Such a pybind11 takes NumPy's C functions from `numpy.core.multiarray`, where nothing newer looks. The table that it
  finds there gets a `PyArray_NewFromDescr` that passes no strides, so that NumPy works them out itself.
- `tensor_from_numpy`, to be used in place of `Tensor`, hands arrays over by DLPack, which does not ask for item sizes.
- DLPack knows no texts: theirs are packed into an array of single bytes whose item size stands where it will be read.

`components.adapters.triton_binary` puts a copy of this file beside its copy of `triton_python_backend_utils`, which
every stub imports, and lets that module import it. Nothing else may: importing it repairs.
"""

from __future__ import annotations

import ctypes
import struct
from typing import Any

import numpy as np

_NEW_FROM_DESCR = 94
_SLOTS = 283
"""Of NumPy's table of C functions, whose order is fixed: the one to replace, and as many as a pybind11 so old knows."""

_ITEM_SIZE = 32
"""Where NumPy 1 kept an item's size in a type, and NumPy 2 keeps flags."""

_POINTER = ctypes.c_void_p
_NewFromDescr = ctypes.PYFUNCTYPE(
    ctypes.py_object, _POINTER, _POINTER, ctypes.c_int, _POINTER, _POINTER, _POINTER, ctypes.c_int, _POINTER
)
_get_pointer = ctypes.PYFUNCTYPE(_POINTER, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_new_capsule = ctypes.PYFUNCTYPE(ctypes.py_object, _POINTER, ctypes.c_char_p, _POINTER)(
    ("PyCapsule_New", ctypes.pythonapi)
)
_set_destructor = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, _POINTER)(
    ("PyCapsule_SetDestructor", ctypes.pythonapi)
)


def repair() -> list[object]:
    """Put the repaired table where the stub will look for it; returns what has to live as long as the process."""
    from numpy.core import multiarray

    name = "_ARRAY_API"  # NumPy 2 keeps it here for this old pybind11 alone
    slots = _POINTER * _SLOTS
    table = slots(*slots.from_address(_get_pointer(getattr(multiarray, name), None)))
    original = _NewFromDescr(table[_NEW_FROM_DESCR] or 0)

    def without_strides(
        kind: int, descr: int, ndim: int, shape: int, _strides: int, data: int, flags: int, base: int
    ) -> object:
        return original(kind, descr, ndim, shape, None, data, flags, base)

    replacement = _NewFromDescr(without_strides)
    table[_NEW_FROM_DESCR] = ctypes.cast(replacement, _POINTER).value
    setattr(multiarray, name, _new_capsule(ctypes.addressof(table), None, None))
    return [table, replacement]


def tensor_from_numpy(name: str, array: np.ndarray[Any, Any]) -> object:
    """A `Tensor` with the numbers of `array`.

    The backend renames the capsule it takes the array from in a way that NumPy's destructor does not know and would
    complain about; as the backend itself frees the array, the destructor is taken off.
    """
    import triton_python_backend_utils as triton

    if array.dtype == np.object_:
        triton.serialize_byte_tensor = serialized  # what `Tensor` calls
        return triton.Tensor(name, array)
    capsule = np.ascontiguousarray(array).__dlpack__()
    _set_destructor(capsule, None)
    return triton.Tensor.from_dlpack(name, capsule)


def serialized(texts: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The texts as Triton packs them: each behind its length, 4 bytes."""
    encoded = [text.encode() for text in texts.ravel()]
    packed = b"".join(struct.pack("<I", len(text)) + text for text in encoded)
    array = np.frombuffer(packed, dtype=np.dtype((np.void, 1)))  # a type of its own, since it is changed
    ctypes.c_uint64.from_address(id(array.dtype) + _ITEM_SIZE).value = 1  # a flag for arrays that own their data
    return array


if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
    _alive = repair()
