"""Whether anybody is there: what is said where nobody is, and how long it takes."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from components.errors import ConfigError, UnavailableError
from flows.doctor import reach as module
from flows.doctor.reach import get, limited, reach, shown


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment names no proxy but a test's own."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def mute() -> Iterator[str]:
    """`host:port` where connections are taken and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    ("url", "problem", "next_step"),
    [
        (
            "http://127.0.0.1:9",
            "nothing listens at 127.0.0.1:9",
            "start it there, or correct its address in config/profiles/p.yaml",
        ),
        ("https://nowhere.invalid", "no host 'nowhere.invalid'", "start it there"),
        (
            "http://lakefs.team.svc.cluster.local:8000",
            "no host 'lakefs.team.svc.cluster.local': the cluster's names are known inside it",
            "kubectl exec -n team deploy/triggers -- trilha doctor --profile p",
        ),
    ],
)
def test_nobody_there(url: str, problem: str, next_step: str) -> None:
    """The address that was tried, and the command that goes on."""
    with pytest.raises(UnavailableError) as caught:
        reach(url, "p")
    assert caught.value.problem == problem
    assert caught.value.next_step.startswith(next_step)


@pytest.mark.parametrize("url", ["mlflow:5000", "http://", "http://host:99999", "http://host:port", "ftp//x"])
def test_no_address(url: str) -> None:
    """What is no address is said to be none, with the file that it is in."""
    with pytest.raises(ConfigError, match=r"is no address.*config/profiles/p.yaml"):
        reach(url, "p")


def test_an_address_that_swallows_what_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A firewall that drops packets costs the limit and no more."""
    monkeypatch.setattr(module, "LIMIT", 0.3)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]  # more than its queue holds: the next one gets no answer
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(address)
        time.sleep(0.1)
        begun = time.monotonic()
        with pytest.raises(UnavailableError, match="does not answer within 0.3 s|timed out"):
            reach(f"http://127.0.0.1:{address[1]}", "p")
        assert time.monotonic() - begun < 30  # the system asks for two minutes
        for one in waiting:
            one.close()


def test_one_who_says_nothing(mute: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes the connection and hangs is given up after the limit."""
    monkeypatch.setattr(module, "LIMIT", 0.3)
    begun = time.monotonic()
    with pytest.raises(UnavailableError, match=mute):
        get(f"http://{mute}", "p")
    assert time.monotonic() - begun < 30  # the client is imported, too


def test_a_proxy(mute: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a proxy it is the proxy that has to be there, unless the host is spared."""
    monkeypatch.setenv("https_proxy", f"http://{mute}")
    monkeypatch.setenv("no_proxy", "127.0.0.1,spared.invalid")
    reach("https://kubeflow.invalid", "p")
    for url in ("https://spared.invalid", "http://kubeflow.invalid", "https://127.0.0.1:9"):
        with pytest.raises(UnavailableError):
            reach(url, "p")


def test_limits() -> None:
    """What takes too long is named; what fails in time fails as it would have."""
    assert limited(lambda: 7, "it") == 7
    with pytest.raises(UnavailableError, match="it does not answer within 0.1 s"):
        limited(lambda: time.sleep(5), "it", 0.1)
    with pytest.raises(TimeoutError, match="of its own"):
        limited(lambda: (_ for _ in ()).throw(TimeoutError("of its own")), "it")


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("postgresql://ana:seed@db:5432/mlflow?password=seed", "postgresql://db:5432/mlflow"),
        ("https://host/pipeline", "https://host/pipeline"),
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
    ],
)
def test_passwords_are_not_shown(url: str, safe: str) -> None:
    """A URL is shown without what some carry before and behind the address."""
    assert shown(url) == safe
