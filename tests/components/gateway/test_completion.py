"""Rows that name an entity and leave out what is known of it: completed with the features that were learned from."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import schemathesis
import yaml
from hypothesis import given
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from components.answers import Answers
from components.errors import ConfigError
from components.export import export
from components.gateway.problems import Problem
from components.gateway.signature import Signature
from components.ledger import running_as
from components.model_inputs import to_frame
from components.online import key_of, materialize
from components.online_settings import OnlineFeatures
from components.predict import predict
from components.project import Features, Serve
from components.records import OnlineTable, Release
from components.releases import write
from components.serving import serve
from components.workspace import Workspace, open_workspace
from tests.components.gateway.conftest import PROJECT, Running, Start, until
from tests.components.gateway.test_fuzz import BOUNDED, CHECKS
from tests.components.test_frameworks import candidate_from, trial_on
from tests.examples import SPLIT, commit_tables, parcels, prepare_as
from tests.redis_server import start as start_redis

pytestmark = pytest.mark.xdist_group("gateway")

ENTITIES = 40
SQL = "select id, late, sent, sender, city, distance, weight, cast(distance / 100 as bigint) as zone from parcels"
KNOWN = ("city", "weight", "zone")
ONLINE = OnlineFeatures(entity="sender", columns=KNOWN)
NUMBERS = ["distance", "weight", "zone"]


@dataclass(frozen=True)
class Made:
    """A release with features of senders, and the latest row of each that it learned from or was judged by."""

    release: Release
    latest: list[dict[str, Any]]
    own: list[float]
    """What the framework itself says of them."""

    def asked(self, *left_out: str) -> list[dict[str, Any]]:
        """The rows as a request has them, without some columns."""
        wanted = [*self.release.prepared.features, "sender"]
        return [{name: row[name] for name in wanted if name not in left_out} for row in self.latest]


def make(workspace: Workspace, first: Release, folder: Path, seed: int = 0) -> Made:
    """Release a model of parcels whose senders are known; another seed, other senders."""
    table = parcels(2_000 + 10 * seed)
    senders = np.random.default_rng(seed).integers(0, ENTITIES, table.num_rows)
    table = table.append_column("sender", pa.array([f"sender ã {one}" for one in senders]))
    features = Features(sql=SQL, row="id", target="late", exclude=("sent", "sender"))
    key = f"{seed}"
    prepared = prepare_as(workspace, commit_tables(workspace, {"parcels": [table]}), key, features, SPLIT)
    run = trial_on(workspace, prepared, folder / f"out-{seed}")
    pre = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["city"]),
        (make_pipeline(SimpleImputer(), StandardScaler()), NUMBERS),
    ).fit(run.inputs(run.train))
    model = LogisticRegression().fit(pre.transform(run.inputs(run.train)), run.train["late"])
    run.save(pre=pre, model=model)
    candidate = candidate_from(workspace, run, key="fd"[seed])
    with running_as(f"6{seed:063}"):
        bundle = export(PROJECT, workspace.name, candidate, prepared, Serve(golden=16))
    with running_as(f"5{seed:063}"):
        online = materialize(PROJECT, workspace.name, prepared, ONLINE, SPLIT)
    changes = {"prepared": prepared, "bundle": bundle, "online": online, "digest": online.digest, "key": f"{seed:064}"}
    release = write(
        workspace.store, PROJECT, changes["key"], lambda number: first.model_copy(update=changes | {"number": number})
    )
    serve(workspace, bundle, PROJECT)
    rows = pa.concat_tables([pq.read_table(path) for path in run.spec.splits.values()])
    rows = rows.sort_by([("sent", "ascending"), ("id", "ascending")])
    latest = list({sender.as_py(): place for place, sender in enumerate(rows["sender"])}.values())
    own = run.answers(pre, model, to_frame(rows.take(latest), prepared.features))
    assert isinstance(own, Answers)
    return Made(release, rows.take(latest).to_pylist(), own.probability.tolist())


@pytest.fixture(params=["sqlite", "redis"])
def made(
    request: pytest.FixtureRequest, repository: Path, behind: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Made:
    """The second release of the project, its features in one store or the other. Tests ask for it before the gateway."""
    if request.param == "redis":
        monkeypatch.setattr("components.adapters.redis_features.PATIENCE", 5.0)  # on a busy machine
        monkeypatch.setenv("FEATURES_URL", request.getfixturevalue("redis")[1])
        path = repository / "config" / "profiles" / "test.yaml"
        path.write_text(f"{path.read_text()}features: {{redis_env: FEATURES_URL}}\n")
        open_workspace.cache_clear()
    return make(open_workspace("test"), behind, tmp_path)


@pytest.fixture
def in_sqlite(behind: Release, tmp_path: Path) -> Made:
    """The same, in SQLite alone."""
    return make(open_workspace("test"), behind, tmp_path)


def answers(running: Running, rows: list[dict[str, Any]]) -> list[Any]:
    answer = running.predict(*rows)
    assert answer.status_code == 200, answer.text
    said: list[Any] = answer.json()["answers"]
    return said


def test_no_skew(made: Made, gateway: Running, tmp_path: Path) -> None:
    """Completed from the store, given in full, and as the notebook's own framework answered in training: all the same."""
    whole = answers(gateway, made.asked())
    assert len(whole) == ENTITIES
    assert len({answer["probability"] for answer in whole}) > ENTITIES / 2
    assert answers(gateway, made.asked(*KNOWN)) == whole
    assert [answer["probability"] for answer in whole] == pytest.approx(made.own, abs=1e-6)
    assert predict(gateway.workspace, made.release, made.asked(*KNOWN)) == predict(
        gateway.workspace, made.release, made.asked()
    )


def test_what_a_row_says_itself_wins(made: Made, gateway: Running) -> None:
    """A value, and null for a missing one; the others come from the store, and one request may have all kinds."""
    row, whole = made.asked(*KNOWN)[0], made.asked()[0]
    changed = {"zone": 0, "weight": None}
    found = answers(gateway, [row, row | changed, whole | changed, row | {"weight": whole["weight"]}])
    assert found[1] == found[2] != found[0] == found[3]


def test_tensorflow(made: Made, gateway: Running) -> None:
    """Its clients may leave out the same, by rows and by columns."""
    rows = made.asked(*KNOWN)
    path = f"/v1/models/{PROJECT}:predict"
    whole = gateway.client.post(path, json={"instances": made.asked()})
    assert gateway.client.post(path, json={"instances": rows}).json() == whole.json()
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    by_column = gateway.client.post(path, json={"inputs": columns}).json()["outputs"]
    assert by_column["probability"] == [row["probability"] for row in whole.json()["predictions"]]
    refused = gateway.client.post(path, json={"instances": [rows[0] | {"sender": "nobody"}]})
    assert (refused.status_code, refused.json()["field"]) == (400, "rows[0].sender")


def test_who_is_not_known(made: Made, gateway: Running) -> None:
    """The row, the entity and its key are named, and what would do instead."""
    rows = made.asked(*KNOWN)
    for row, field, words in (
        ({"sender": "nobody"}, "rows[1].sender", "rows[1]: nothing is known of sender 'nobody'"),
        ({"sender": None}, "rows[1].sender", "rows[1]: column 'city' is missing, and so is 'sender', by which it is known"),
        ({"sender": 4}, "rows[1].sender", "rows[1].sender: 'sender' does not fit: expected `str | null`, got `int`"),
    ):  # fmt: skip
        answer = gateway.predict(rows[0], rows[1] | row)
        assert (answer.status_code, answer.json()["field"]) == (422, field)
        assert answer.json()["detail"] == words.replace("`", "")
    unnamed = {name: value for name, value in rows[0].items() if name != "sender"}
    assert gateway.predict(unnamed).json()["field"] == "rows[0].sender"
    with pytest.raises(ConfigError, match="row 2: nothing is known of sender .*nobody.*give city, weight, zone"):
        predict(gateway.workspace, made.release, [rows[0], rows[1] | {"sender": "nobody"}])
    with pytest.raises(ConfigError, match="row 1: column 'city' is missing, and so is 'sender', by which it is known"):
        predict(gateway.workspace, made.release, [unnamed])
    whole = {name: value for name, value in made.asked()[0].items() if name != "sender"}
    assert gateway.predict(whole).status_code == 200  # nobody has to be named where nothing is left out


def test_a_request_may_leave_them_out(made: Made, gateway: Running) -> None:
    """OpenAPI and the project's description say which columns, and by what they are known."""
    described = gateway.client.get(f"/v1/projects/{PROJECT}").json()
    assert described["online"] == {"entity": {"sender": "string"}, "columns": list(KNOWN)}
    post = gateway.client.get("/openapi.json").json()["paths"][f"/v1/projects/{PROJECT}/predict"]["post"]
    row = post["requestBody"]["content"]["application/json"]["schema"]["properties"]["rows"]["items"]
    assert row["required"] == ["distance"]
    assert row["properties"]["sender"] == {"type": ["string", "null"]}
    assert row["properties"]["zone"]["description"] == "May be left out: known by sender."


def test_requests_of_every_kind(in_sqlite: Made, gateway: Running) -> None:
    """Made of the description, right and wrong, with and without what may be left out: no 5xx, no undescribed answer."""
    schema = schemathesis.openapi.from_dict(gateway.client.get("/openapi.json").json())
    asked = Counter[int]()
    for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
        operation = schema[f"/v1/projects/{PROJECT}/predict"]["POST"]

        @BOUNDED
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: schemathesis.Case) -> None:
            answer = case.call_and_validate(base_url=str(gateway.client.base_url), checks=CHECKS, timeout=20)
            asked[answer.status_code] += 1

        ask()
    assert asked[422] > 20
    for sender in (None, 1, 1.5, [], "\0", 10**400, "x" * 10_000):
        assert gateway.predict({"distance": 1, "sender": sender}).status_code in {400, 422}


def test_an_array_is_known(behind: Release) -> None:
    """Like any column: left out, given as a whole, or given as missing."""
    features = {"shop": "bigint", "taste": "double[2]"}
    table = OnlineTable(entity={"shop": "bigint"}, columns=("taste",), rows=1, file=behind.bundle.golden)
    changes = {"prepared": behind.prepared.model_copy(update={"features": features}), "online": table}
    signature = Signature(behind.model_copy(update=changes))
    rows = signature.rows_of(b'{"rows": [{"shop": 1}, {"shop": 1.0, "taste": [1, null]}, {"shop": 1, "taste": null}]}')
    assert signature.gaps is not None
    [lacking] = signature.gaps.of(rows)
    assert (lacking.place, lacking.key) == (0, key_of([1]))
    signature.gaps.fill([lacking], {lacking.key: msgspec.msgpack.encode([[0.5, 2.5]])})
    assert signature.transposed(rows)[1] == [[0.5, 2.5], [1, None], None]
    with pytest.raises(Problem, match=r"'taste' does not fit"):
        signature.rows_of(b'{"rows": [{"shop": 1, "taste": [1]}]}')


def test_each_release_has_its_own(in_sqlite: Made, gateway: Running, behind: Release, tmp_path: Path) -> None:
    """The new release answers with its own features, the one before with those it had, also when asked by number."""
    path = f"/v1/models/{PROJECT}/versions/{in_sqlite.release.number}:predict"
    before = gateway.client.post(path, json={"instances": in_sqlite.asked(*KNOWN)}).json()
    newer = make(gateway.workspace, behind, tmp_path, seed=1)
    until(lambda: gateway.client.get(f"/v1/projects/{PROJECT}").json()["release"] == newer.release.number)
    assert answers(gateway, newer.asked(*KNOWN)) == answers(gateway, newer.asked())
    assert gateway.client.post(path, json={"instances": in_sqlite.asked(*KNOWN)}).json() == before
    assert answers(gateway, in_sqlite.asked(*KNOWN)) != before["predictions"]


def test_redis_is_gone(
    repository: Path,
    start: Start,
    behind: Release,
    redis: tuple[subprocess.Popen[bytes], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who needs it is told to come again, at once; who does not is answered; back and empty, it gets its table again."""
    monkeypatch.setenv("FEATURES_URL", redis[1])
    monkeypatch.setattr("components.adapters.redis_features.PATIENCE", 60.0)
    path = repository / "config" / "profiles" / "test.yaml"
    path.write_text(f"{path.read_text()}features: {{redis_env: FEATURES_URL}}\n")
    open_workspace.cache_clear()
    made = make(open_workspace("test"), behind, tmp_path)
    gateway = start()
    expected = answers(gateway, made.asked(*KNOWN))
    redis[0].kill()
    redis[0].wait()
    begun = time.monotonic()
    refused = gateway.predict(made.asked(*KNOWN)[0])
    assert time.monotonic() - begun < 30
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert refused.json()["detail"] == "what is known by sender cannot be looked up just now"
    assert refused.json()["accepted"] == "city, weight, zone in the request"
    assert answers(gateway, made.asked()) == expected
    with start_redis(int(redis[1].rsplit(":", 1)[1].removesuffix("/0")), tmp_path) as again:
        assert answers(gateway, made.asked(*KNOWN)) == expected
        again.kill()


def test_the_variable_is_not_set(repository: Path, start: Start) -> None:
    """A gateway that could look up nothing does not start."""
    path = repository / "config" / "profiles" / "test.yaml"
    profile = yaml.safe_load(path.read_text()) | {"features": {"redis_env": "NOWHERE"}}
    path.write_text(yaml.safe_dump(profile))
    with pytest.raises(ConfigError, match="NOWHERE holds no URL of a Redis"):
        start()
