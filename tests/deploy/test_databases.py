"""The databases of a deployment: the same scripts and settings as in deploy/, on a real PostgreSQL and a real Redis."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.databases import PASSWORD, ROLES, SCRIPTS, Postgres, password_of, running
from tests.deploy.servers import Server, lakefs_on

pytestmark = pytest.mark.xdist_group("databases")


def test_made_twice(databases: Postgres) -> None:
    """Making the databases again changes nothing, and no password is in what the scripts print."""
    owners = "select datname, pg_get_userbyid(datdba) from pg_database order by 1"
    before = databases.ask(owners)
    again = databases.make_databases()
    assert again.returncode == 0, again.stderr
    assert databases.ask(owners) == before
    assert {"prefect|prefect", "mlflow|mlflow", "lakefs|lakefs"} <= set(before.splitlines())
    assert not any(secret in again.stdout + again.stderr for secret in [PASSWORD, *map(password_of, ROLES)])


def test_each_its_own(databases: Postgres) -> None:
    """A role reaches its own database and no other; the one that backs up reads all and writes nothing."""
    databases.ask("create table mine (x int); insert into mine values (7)", "mlflow", "mlflow")
    for role, database in (("mlflow", "prefect"), ("lakefs", "mlflow"), ("prefect", "lakefs"), ("grafana", "mlflow")):
        assert "permission denied" in databases.ask("select 1", role, database)
    assert databases.ask("select x from mine", "mlflow", "mlflow") == "7"
    assert databases.ask("select x from mine", "backup", "mlflow") == "7"
    assert "permission denied" in databases.ask("delete from mine", "backup", "mlflow")


def test_a_new_password(databases: Postgres) -> None:
    """A password that was changed where secrets are kept is the database's from the next time on."""
    passwords = {f"{role.upper()}_DATABASE": password_of(role) for role in ROLES}
    other = databases.script("databases.sh", "postgres", **passwords | {"LAKEFS_DATABASE": "another-one"})
    assert other.returncode == 0
    assert "password authentication failed" in databases.ask("select 1", "lakefs", "lakefs")
    assert databases.make_databases().returncode == 0
    assert databases.ask("select 1", "lakefs", "lakefs") == "1"


def test_put_back(databases: Postgres, tmp_path: Path) -> None:
    """A dump put into a fresh database makes it equal to the one that was dumped; old dumps are dropped."""
    databases.ask("create table kept as select n, md5(n::text) from generate_series(1, 1000) n", "lakefs", "lakefs")
    old = tmp_path / "lakefs-old.dump"
    old.touch()
    os.utime(old, (0, 0))
    done = databases.script("backup.sh", "backup", BACKUPS=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert not old.exists()
    dumps = sorted(tmp_path.iterdir())
    assert [dump.name.split("-")[0] for dump in dumps] == ["lakefs", "mlflow", "prefect"]

    assert databases.ask("create database restored owner lakefs") == "CREATE DATABASE"
    command = ["pg_restore", "--no-owner", "--role", "lakefs", "--exit-on-error", "--dbname", "restored", dumps[0]]
    subprocess.run(command, env=databases.environment(), check=True)
    rows = "select count(*), md5(string_agg(kept::text, ',' order by n)) from kept"
    there = databases.ask(rows, "lakefs", "restored")
    assert there == databases.ask(rows, "lakefs", "lakefs")
    assert there.startswith("1000|")
    databases.ask("drop database restored")


def test_a_backup_that_fails(databases: Postgres, tmp_path: Path) -> None:
    """A dump that breaks off leaves nothing that looks like one, and the script fails."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "pg_dump").write_text('#!/bin/sh\nwhile [ "$1" != --file ]; do shift; done\necho half > "$2"\n')
    (programs / "pg_dump").chmod(0o755)
    done = databases.script("backup.sh", "backup", BACKUPS=str(tmp_path), PATH=f"{programs}:{os.environ['PATH']}")
    assert done.returncode != 0
    assert list(tmp_path.glob("*.dump")) == []


def test_with_secrets(tmp_path: Path) -> None:
    """What is mounted under the name of a variable is in the command's environment; other files are left alone."""
    (tmp_path / "A_PASSWORD").write_text("with 'quotes' and $signs")
    (tmp_path / "grafana.ini").write_text("no variable")
    code = "import os, json; print(json.dumps({**os.environ}))"
    command = ["sh", SCRIPTS / "with-secrets.sh", sys.executable, "-c", code]
    done = subprocess.run(command, env={"SECRETS": str(tmp_path)}, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["A_PASSWORD"] == "with 'quotes' and $signs"
    assert "grafana.ini" not in found


@pytest.mark.slow
def test_prefect(prefect: Server, databases: Postgres, redis_url: str) -> None:
    """It keeps its tables in Postgres, tells its processes by Redis, and lets nobody in without the password."""
    assert int(databases.ask("select count(*) from pg_tables where schemaname = 'public'", database="prefect")) > 20
    keys = subprocess.run(
        ["redis-cli", "-p", str(urlsplit(redis_url).port), "-n", "1", "--scan"],
        env=os.environ | {"REDISCLI_AUTH": password_of("redis")}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert keys.split()
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{prefect.url}/api/admin/version", timeout=5)
    assert prefect.json("/api/admin/version")


@pytest.mark.slow
def test_what_grafana_sees(prefect: Server, databases: Postgres) -> None:
    """A run and its steps, with states and attempts, through two functions; of Prefect's own tables, nothing."""
    script = prefect.log.with_name("flow.py")
    script.write_text(
        "from prefect import flow, task\n\n"
        "@task(retries=1)\ndef shaky(seen=[]):\n    seen.append(1)\n    assert len(seen) > 1\n\n"
        "@flow\ndef watched():\n    shaky()\n\n"
        "watched()\n"
    )
    log = prefect.log.with_name("flow.log")
    variables = {"PREFECT_API_URL": f"{prefect.url}/api", "PREFECT_API_AUTH_STRING": prefect.auth}
    with running([sys.executable, str(script)], variables, log) as process:
        assert process.wait(120) == 0, log.read_text()
    between = "now() - interval '1 hour', now()"
    steps = f"select flow, state, attempts from watch.steps({between}) where flow = 'watched'"
    while not databases.ask(steps, "grafana", "prefect"):  # the server writes them a moment later
        time.sleep(0.1)
    assert databases.ask(steps, "grafana", "prefect") == "watched|COMPLETED|2"
    runs = f"select flow, state, seconds >= 0 from watch.runs({between}) where flow = 'watched'"
    assert databases.ask(runs, "grafana", "prefect") == "watched|COMPLETED|t"
    assert "permission denied" in databases.ask("select * from public.flow_run", "grafana", "prefect")


@pytest.mark.slow
@pytest.mark.lakefs
def test_lakefs(databases: Postgres, tmp_path: Path) -> None:
    """Its first start makes the user with the keys that it is given, its second one finds them; Postgres keeps it all."""
    for _ in ("first", "second"):
        with lakefs_on(databases, tmp_path) as server:
            assert server.json("/api/v1/user")["user"]["id"] == "trilha"
        assert password_of("lakefs-key") not in server.log.read_text()
    assert "kv" in databases.ask("select tablename from pg_tables where schemaname = 'public'", "lakefs", "lakefs")
