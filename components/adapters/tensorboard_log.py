"""TensorBoard's event files, by TensorBoard's own writer: neither TensorFlow nor torch is needed."""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping

from components.adapters.tensorboard_service import spare_tensorflow
from components.records import Scalar

FINAL = "final/"
"""Stands before the metrics of the finished model, so that they do not end a curve of the same name."""


class TensorBoardLog:
    """The event file of one run.

    Args:
        folder: the run's folder below TensorBoard's log directory; made with the first event.
    """

    def __init__(self, folder: str) -> None:
        spare_tensorflow()
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer = EventFileWriter(folder)

    def scalar(self, name: str, value: float, step: int) -> None:
        """One value of a curve."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._add(Summary(value=[Summary.Value(tag=name, simple_value=value)]), step)

    def figure(self, name: str, png: bytes) -> None:
        """A picture, from the bytes of a PNG file."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        width, height = struct.unpack(">II", png[16:24])  # of the IHDR chunk, which comes first
        image = Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=png)
        self._add(Summary(value=[Summary.Value(tag=name, image=image)]), 0)

    def hparams(self, parameters: Mapping[str, Scalar], metrics: Mapping[str, float]) -> None:
        """What the HPARAMS tab compares runs by: their parameters, and the metrics of the model that came out."""
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb

        known = {name: "none" if value is None else value for name, value in parameters.items()}
        self._add(hparams_pb(known), 0)
        for name, value in metrics.items():
            self.scalar(f"{FINAL}{name}", value, 0)

    def close(self) -> None:
        """Write what is buffered; nothing may be added after."""
        self._writer.close()

    def _add(self, summary: object, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))
