"""MLflow's tracking server in one process: `python -m components.adapters.mlflow_service FOLDER HOST PORT`.

`mlflow server` is a parent that waits and workers that serve; each imports MLflow, which takes seconds. Here the same
application runs in the process that is started, on the same SQLite database and artifact proxy.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main(folder: Path, host: str, port: int) -> None:
    """Serve until a signal comes; the database is made or migrated before anything listens."""
    from mlflow.server import constants

    (folder / "artifacts").mkdir(parents=True, exist_ok=True)
    database = f"sqlite:///{folder / 'mlflow.db'}"
    os.environ |= {
        constants.BACKEND_STORE_URI_ENV_VAR: database,
        constants.REGISTRY_STORE_URI_ENV_VAR: database,
        constants.ARTIFACT_ROOT_ENV_VAR: "mlflow-artifacts:/",
        constants.ARTIFACTS_DESTINATION_ENV_VAR: str(folder / "artifacts"),
        constants.SERVE_ARTIFACTS_ENV_VAR: "true",
    }
    import uvicorn
    from mlflow.server.fastapi_app import app
    from mlflow.server.handlers import initialize_backend_stores

    initialize_backend_stores(database, database, "mlflow-artifacts:/")
    uvicorn.run(app, host=host, port=port, log_level="warning")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
