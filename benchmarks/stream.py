"""What does exactly-once cost: messages of a real Kafka to validated commits of `main`, against files and no promise?

The limit is a plain consumer: the same client, the same decoding into columns, the same Parquet files, in a folder. It
validates nothing, commits nothing, and after a kill nobody knows what it has read.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from report import ROOT, Row, Sample, interleave, median, ratio, report

from components.adapters.kafka_stream import open_topic
from tests.kafka import Kafka

MESSAGES, BATCH, PARTITIONS = 400_000, 50_000, 3
GOAL = 0.8
"""Share of the plain consumer's rate."""

PROFILE = """\
state: .trilha/bench
store: {{kind: git, path: .trilha/bench/data.git}}
connections: {{sensors: {{url: "{url}"}}}}
"""

COLUMNS = {
    "origin": "VARCHAR", "year": "BIGINT", "month": "BIGINT", "day": "BIGINT", "hour": "BIGINT", "temp": "DOUBLE",
    "dewp": "DOUBLE", "humid": "DOUBLE", "wind_dir": "BIGINT", "wind_speed": "DOUBLE", "wind_gust": "DOUBLE",
    "precip": "DOUBLE", "pressure": "DOUBLE", "visib": "DOUBLE", "time_hour": "TIMESTAMP WITH TIME ZONE",
}  # fmt: skip

COMMON = f"""
import sys, threading, time
from components.stream_settings import Stream
settings = Stream(connection="sensors", topic="weather", columns={COLUMNS!r}, batch={{"rows": {BATCH}, "seconds": 60}})
"""

OURS = (
    COMMON
    + f"""
import great_expectations, pandas  # a service imports them once
from components.project import ExpectationsFile
from components import config, strict_yaml
from components.stream import Feed
from components.stream_metrics import StreamMetrics
from components.workspace import open_workspace
over, left = threading.Event(), [{MESSAGES}]
class Metrics(StreamMetrics):
    def committed(self, fed, seconds):
        super().committed(fed, seconds)
        left[0] -= fed.messages
        if left[0] <= 0:
            over.set()
path = config.root() / "expectations.yaml"
expectations = strict_yaml.load(path, ExpectationsFile).tables["weather"]
feed = Feed(open_workspace("bench"), "bench", "weather", settings, expectations, Metrics("bench"), over, print)
clock, used = time.perf_counter(), time.process_time()
feed.run()
print(time.perf_counter() - clock, time.process_time() - used)
"""
)

PLAIN = (
    COMMON
    + f"""
import pyarrow as pa, pyarrow.parquet as pq
from components.adapters.kafka_stream import open_topic
from components.stream_rows import Decoder
decoder = Decoder(settings.columns)
clock, used = time.perf_counter(), time.process_time()
topic = open_topic(sys.argv[1], "weather")
topic.seek(topic.start("earliest"), lost="stop")
read = number = 0
while read < {MESSAGES}:
    parts, rows = [], 0
    while rows < {BATCH} and read + rows < {MESSAGES}:
        values = topic.read(min(5_000, {BATCH} - rows), 0.2).values
        if values:
            parts.append(decoder.decode(values).rows)
            rows += len(values)
    pq.write_table(pa.concat_tables(parts), f"{{number}}.parquet", compression="zstd", compression_level=1)
    read, number = read + rows, number + 1
print(time.perf_counter() - clock, time.process_time() - used)
"""
)


def main() -> None:
    """Measure in a repository of its own, with a broker of its own."""
    folder = Path(tempfile.mkdtemp(prefix="trilha-bench-"))
    kafka = Kafka(folder)
    try:
        kafka.start()
        kafka.make("weather", PARTITIONS)
        _fill(kafka.url)
        (folder / "config" / "projects").mkdir(parents=True)
        (folder / "config" / "profiles").mkdir()
        (folder / "config" / "profiles" / "bench.yaml").write_text(PROFILE.format(url=kafka.url))
        shutil.copy(ROOT / "config" / "projects" / "flights" / "expectations.yaml", folder)
        report([_row(folder, kafka.url)])
    finally:
        kafka.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _fill(url: str) -> None:
    """Readings like those of the stations of `flights`."""
    topic = open_topic(url, "weather")
    for start in range(0, MESSAGES, 20_000):
        topic.send([
            json.dumps({
                "origin": ("EWR", "JFK", "LGA")[number % 3], "year": 2013, "month": 1 + number % 12,
                "day": 1 + number % 28, "hour": number % 24, "temp": 39.02, "dewp": 26.06, "humid": 59.37,
                "wind_dir": number % 360,
                "wind_speed": 10.35702, "wind_gust": None, "precip": 0.0, "pressure": 1012.0, "visib": 10.0,
                "time_hour": f"{2013 + number // 175_200}-01-{1 + number // 86_400 % 28:02}T{number // 3600 % 24:02}:"
                             f"{number // 60 % 60:02}:{number % 60:02}Z",
            }).encode()
            for number in range(start, start + 20_000)
        ])  # fmt: skip
    topic.close()


def _row(folder: Path, url: str) -> Row:
    environment = {**os.environ, "TRILHA_ROOT": str(folder), "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def run(program: str) -> Sample:
        shutil.rmtree(folder / ".trilha", ignore_errors=True)
        peak = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
        command = [sys.executable, "-c", f"{program}\n{peak}", url]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stdout + done.stderr)
        wall, cpu, peak = done.stdout.split()[-3:]
        return Sample(float(wall), float(cpu), float(peak))

    samples = interleave({"ours": lambda: run(OURS), "plain": lambda: run(PLAIN)})
    ours, plain = samples["ours"], samples["plain"]
    slower = ratio(ours, plain)
    return Row(
        question=f"{MESSAGES:,} messages of Kafka to commits of {BATCH:,}, validated, each message in one",
        ours=f"{MESSAGES / median(ours):,.0f} messages/s, peak {median(ours, 'peak'):.0f} MiB",
        limit=f"a plain consumer that writes Parquet {MESSAGES / median(plain):,.0f} messages/s, "
        f"peak {median(plain, 'peak'):.0f} MiB",
        ratio=1 / slower,
        goal=f"{GOAL:.0%} of its rate",
        met=1 / slower >= GOAL,
        note=f"CPU {median(ours, 'cpu'):.1f} s against {median(plain, 'cpu'):.1f} s",
    )


if __name__ == "__main__":
    main()
