"""MLServer with the same graphs, asked in the V2 protocol's JSON."""

from typing import Any

import numpy as np
from graphs import Graphs
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceResponse


class Ours(MLModel):
    """What MLServer loads."""

    async def load(self) -> bool:
        self.graphs = Graphs()
        return True

    async def predict(self, payload: Any) -> Any:
        values = {}
        for one in payload.inputs:
            if one.datatype == "BYTES":
                values[one.name] = np.array(StringCodec.decode_input(one), dtype=object).reshape(-1, 1)
            else:
                values[one.name] = NumpyCodec.decode_input(one).astype(np.float32).reshape(-1, 1)
        found = self.graphs.answer(values)
        outputs = [NumpyCodec.encode_output(name, found[name]) for name in ("probability", "label")]
        return InferenceResponse(model_name=self.name, outputs=outputs)
