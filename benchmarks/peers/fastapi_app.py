"""What most people would write: FastAPI, a pydantic model of a row, ONNX Runtime."""

from fastapi import FastAPI
from graphs import Graphs
from pydantic import create_model

graphs = Graphs()
columns = dict.fromkeys(graphs.texts, (str | None, ...)) | dict.fromkeys(graphs.numbers, (float | None, ...))
Rows = create_model("Rows", rows=(list[create_model("Row", **columns)], ...))  # type: ignore[call-overload]  # by name
app = FastAPI()


@app.post("/predict")
def predict(body: Rows) -> dict[str, list[dict[str, float]]]:  # type: ignore[valid-type]  # made above
    """Answer rows."""
    return {"answers": graphs.rows([row.__dict__ for row in body.rows])}  # type: ignore[attr-defined]  # made above
