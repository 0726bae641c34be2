"""Where a project runs: `config/profiles/NAME.yaml`, typed and checked on load."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from components.addresses import Inside
from components.retention_settings import Retention
from components.settings import Name, Settings


class GitStore(Settings):
    """The embedded data store."""

    kind: Literal["git"] = "git"
    path: str


class LakeFSStore(Settings):
    """A lakeFS server; its credentials are read from the environment variables named here, never from the file."""

    kind: Literal["lakefs"]
    url: str
    repository: Name
    namespace: str
    """Storage namespace, used when the repository has to be made: `s3://bucket/prefix`, `local://...`."""
    access_key_env: str = "LAKECTL_CREDENTIALS_ACCESS_KEY_ID"
    secret_key_env: str = "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY"  # noqa: S105  # the name of a variable, not a secret


class Service(Settings):
    """One background service. `port` 0 takes a free one; `url` names one that runs elsewhere."""

    port: int = Field(default=0, ge=0, le=65535)
    url: str | None = None


EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""The name of an environment variable."""


class TriggersService(Service):
    """What starts runs by commits and calls. `url` is how the data store reaches it where it runs elsewhere."""

    quiet: float = Field(default=5.0, ge=0, le=3600)
    """Seconds that a run waits for newer commits, which it then takes in place of its own."""
    token_env: EnvName | None = None
    """The variable that holds the token of callers; none: the file that `trilha up` makes."""


class WorkersService(Service):
    """The processes on this machine that take runs from Prefect; `trilha up --workers N` starts them."""

    pool: Name = "onprem"
    """The work pool that deployments of this profile use, and that the workers serve."""


class TritonService(Service):
    """`port` is the gRPC endpoint's; `url` is `host:port`."""

    repository: str | None = None
    """Where the server reads its models from: a folder by its whole path, or a URL (`s3://`, `gs://`, `abfs://`), that
    both sides see. One at `url` has it; without `url`, ours is started on it. None: a folder of the profile's own."""
    http: str | None = Field(default=None, pattern=r"^[^\s/:]+:[0-9]{1,5}$")
    """`host:port` of its HTTP, where that is not the port before the one of gRPC; the gateway asks there."""
    backends: str | None = Field(default=None, pattern="^/")
    """A folder of Triton's backends by its whole path, as `/opt/tritonserver/backends`. The embedded server takes those
    beside its own Python backend; a `tritonserver` on PATH has them in place of its own folder."""

    @model_validator(mode="after")
    def _is_reachable(self) -> TritonService:
        if self.url is not None and self.repository is None:
            raise ValueError("a `repository` with `url`")
        return self


class Jwt(Settings):
    """Tokens of others that the gateway takes: signed, with `exp`, and with `scope` as a text or a list."""

    algorithm: Literal["ES256", "HS256", "RS256"]
    key_env: EnvName
    """The variable that holds the secret (HS256) or the public key in PEM."""
    audience: str | None = None
    issuer: str | None = None


class GatewayLimits(Settings):
    """What one caller, and one request, may take."""

    rate: PositiveFloat | None = None
    """Requests a second of one caller, on average; none: as many as it can."""
    burst: PositiveInt = 100
    """Requests at once of one caller, before `rate` counts."""
    body: PositiveInt = 16 * 2**20
    """Bytes of a request."""
    seconds: PositiveFloat = 10.0
    """For a request to arrive, and for the model to answer."""
    connections: PositiveInt = 64
    """Requests that Triton works on at a time; others wait."""


class GatewayCache(Settings):
    """Answers that the gateway remembers: one bundle, the same tensors, the same answer."""

    bytes: PositiveInt = 64 * 2**20
    """In the gateway's memory."""
    redis_env: EnvName | None = None
    """The variable that holds the URL of a Redis for all gateways together, with its password."""
    seconds: PositiveInt = 3600
    """That Redis keeps an answer."""


class GatewayGather(Settings):
    """Rows of several requests go to Triton together, where they wait anyway."""

    seconds: PositiveFloat = 0.02
    """That a question should take at most: how many rows go together follows from it."""
    lanes: PositiveInt = 2
    """Questions on their way to one release at a time; more where a model has several instances."""


class GatewayService(Service):
    """The door for everybody else: `trilha serve`. Beyond loopback it wants `authentication`."""

    host: str = "127.0.0.1"
    """The address that it listens on."""
    authentication: bool = False
    keys: str | None = None
    """The file of hashed keys, where it is not the one that `trilha keys` makes."""
    jwt: Jwt | None = None
    limits: GatewayLimits = GatewayLimits()
    cache: GatewayCache | None = None
    gather: GatewayGather | None = GatewayGather()
    traces: str | None = Field(default=None, pattern=r"^https?://[^@\s]+$")
    """An OpenTelemetry collector's URL for traces (OTLP over HTTP): `http://host:4318/v1/traces`."""


class FeaturesStore(Settings):
    """Where features known by entity lie ready for requests: in SQLite files of this machine, or in a Redis."""

    redis_env: EnvName | None = None
    """The variable that holds the URL of a Redis that workers and gateways share, with its password."""


class Connection(Settings):
    """A server outside that data comes from or goes to, by its URL: `postgresql://...`, `redis://...`, `kafka://...`."""

    url: str | None = None
    url_env: EnvName | None = None
    """The variable that holds the URL, where there is a password in it."""

    @model_validator(mode="after")
    def _is_one_without_a_secret(self) -> Connection:
        if (self.url is None) == (self.url_env is None):
            raise ValueError("one of `url` and `url_env`")
        if self.url is not None and urlsplit(self.url).password:
            raise ValueError("`url_env` for a URL with a password, which belongs into no file")
        return self


class Services(Settings):
    """The services that `trilha up` starts on loopback, or that run elsewhere."""

    prefect: Service = Service()
    mlflow: Service = Service()
    tensorboard: Service = Service()
    triton: TritonService = TritonService()
    triggers: TriggersService = TriggersService()
    gateway: GatewayService = GatewayService()
    workers: WorkersService = WorkersService()


class Kubeflow(Settings):
    """Kubeflow Pipelines at `host`; without one, the same containers run on this machine through Docker's API.

    Nothing in here is a secret: `token_env` and `secrets` say where one is found.
    """

    image: str | None = None
    """The project's image, which every node runs on."""
    host: str | None = Field(default=None, pattern=r"^https?://[^@\s]+$")
    namespace: str | None = None
    """Where runs belong, on a Kubeflow for many users."""
    token_env: EnvName | None = None
    """The variable that holds the token for `host`."""
    service_account: str | None = None
    secrets: dict[str, dict[str, EnvName]] = {}
    """Kubernetes Secret -> its key -> the variable that the nodes get it as."""
    config_maps: dict[str, dict[str, EnvName]] = {}
    """Kubernetes ConfigMap -> its key -> the variable that the nodes get it as."""
    accelerator: str | None = None
    """What `policy.gpu` counts: `nvidia.com/gpu`, say."""
    pools: dict[Name, dict[str, str]] = {}
    """Pool, as a project's `placement` names it -> the labels that Kubernetes nodes of it have."""


class Profile(Settings):
    """`config/profiles/NAME.yaml`: where a project runs."""

    state: str
    """fsspec URL, or a folder below the repository's root: ledger, runs, artifacts and what services keep."""
    store: Annotated[GitStore | LakeFSStore, Field(discriminator="kind")]
    engine: Literal["kubeflow", "local", "prefect"] = "prefect"
    workers: PositiveInt = 2
    """Nodes that run side by side."""
    pools: tuple[Name, ...] = ()
    """Prefect's work pools that a project's `placement` may name; each has the deployment `step/POOL`."""
    sql: str = "duckdb://"
    """Ibis' URL of the engine that runs `features.sql`."""
    services: Services = Services()
    connections: dict[Name, Connection] = {}
    """Servers outside, by the names that projects call them by."""
    inside: tuple[Inside, ...] = ()
    """Hosts and networks inside (loopback, private, link-local) that URLs of projects may point at."""
    features: FeaturesStore = FeaturesStore()
    retention: Retention = Retention()
    kubeflow: Kubeflow = Kubeflow()
