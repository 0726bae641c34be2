"""What `trilha tune` saw, drawn: answers a second against p99, a line for each of those that were weighed last."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from components.tune_search import Outcome, Tried

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #212529; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2rem; } svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; margin: .5rem 0; } td, th { border: 1px solid #dee2e6; padding: .3rem .6rem; }
td { text-align: right; } td:first-child, th { text-align: left; } .over { color: #c82333; }
"""


class About(NamedTuple):
    """What was measured, and with what."""

    project: str
    release: int
    rows: int
    generator: str

    @property
    def asked(self) -> str:
        """In words."""
        return "one row a request" if self.rows == 1 else f"{self.rows} rows a request"


def draw(folder: Path, about: About, outcome: Outcome) -> None:
    """Write `tune.svg`, `tune.html` and `tune.json`; none of them needs a network."""
    picture(folder / "tune.svg", about, outcome)
    svg = (folder / "tune.svg").read_text()
    (folder / "tune.html").write_text(page(svg[svg.index("<svg") :], about, outcome))
    (folder / "tune.json").write_text(outcome.model_dump_json(indent=1))


def picture(path: Path, about: About, outcome: Outcome) -> None:
    """Throughput to the right, p99 upwards, the number at a dot is of clients; below the line the budget is held."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for one in outcome.tried:
        axes.plot(
            [dot.rate for dot in one.points], [dot.p99_ms for dot in one.points], ".", color="lightgrey", zorder=1
        )
    for place, one in enumerate(outcome.finals):
        mark = ", ".join(["chosen"] * (place == 0) + ["before"] * (one.knobs == outcome.before.knobs))
        line = {"linewidth": 2.2} if place == 0 else {"linewidth": 1.2, "linestyle": "--"}
        rates, p99s = _ends(one)
        axes.plot(
            rates,
            p99s,
            marker="o",
            markersize=4,
            label=f"{one.knobs} ({mark})" if mark else str(one.knobs),
            zorder=3,
            **line,
        )
        for dot in one.points if place == 0 else ():
            axes.annotate(
                str(dot.clients), (dot.rate, dot.p99_ms), xytext=(4, -10), textcoords="offset points", fontsize=8
            )
    axes.axhline(outcome.budget_ms, color="tab:red", linewidth=1)
    axes.annotate(f"p99 {outcome.budget_ms:g} ms", (0, outcome.budget_ms), xytext=(4, 3), textcoords="offset points",
                  color="tab:red", fontsize=8)  # fmt: skip
    axes.set(title=f"{about.project}: {about.asked}", xlabel="answers a second", ylabel="p99, ms", yscale="log")
    axes.set_xlim(left=0)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.legend(frameon=False, fontsize=8)
    with mpl.rc_context({"svg.hashsalt": about.project, "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None})


def _ends(one: Tried) -> tuple[list[float], list[float]]:
    return [dot.rate for dot in one.points], [dot.p99_ms for dot in one.points]


def page(svg: str, about: About, outcome: Outcome) -> str:
    """The whole page."""
    chosen = outcome.finals[0]
    best = chosen.best(outcome.budget_ms)
    said = f"{best.rate:,.0f} answers a second at p99 {best.p99_ms:.1f} ms" if best else "nothing holds the budget"
    before = f"{outcome.before.rate(outcome.budget_ms):,.0f}"
    cut = ", cut short by the time" if outcome.cut else ""
    rows = "".join(_row(outcome, one) for one in outcome.tried)
    finals = "".join(_sweep(outcome, one) for one in outcome.finals)
    return f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>{escape(about.project)}: tuned for p99 {outcome.budget_ms:g} ms</title>
<style>{_STYLE}</style></head>
<body>
<h1>{escape(about.project)}: tuned for p99 {outcome.budget_ms:g} ms</h1>
<p>{escape(str(chosen.knobs))}: {said}; before, {before}. Release {about.release}, {about.asked},
{len(outcome.tried)} settings in {outcome.seconds:.0f} s{cut}. Load by {escape(about.generator)}.
What the project had gave {outcome.noise:.0%} more or less from one time to another.</p>
{svg}
<h2>Weighed last, over all numbers of clients</h2>
{finals}
<h2>Tried on the way</h2>
<table><thead><tr><th>settings</th><th>answers/s within the budget</th><th>p99, ms</th><th>clients</th></tr></thead>
<tbody>{rows}</tbody></table>
</body>
</html>
"""


def _row(outcome: Outcome, one: Tried) -> str:
    best = one.best(outcome.budget_ms)
    found = f"<td>{best.rate:,.0f}</td><td>{best.p99_ms:.1f}</td><td>{best.clients}</td>" if best else (
        f'<td class="over" colspan="3">{escape(one.refused) or "over the budget"}</td>'
    )  # fmt: skip
    return f"<tr><td>{escape(str(one.knobs))}</td>{found}</tr>"


def _sweep(outcome: Outcome, one: Tried) -> str:
    cells = "".join(
        f"<tr><td>{dot.clients}</td><td>{dot.rate:,.0f}</td><td>{dot.p50_ms:.2f}</td>"
        f"<td{'' if dot.holds(outcome.budget_ms) else ' class=over'}>{dot.p99_ms:.2f}</td><td>{dot.failed}</td>"
        f"<td>{dot.cost_us:.0f}</td></tr>"
        for dot in one.points
    )
    head = (
        "<th>clients</th><th>answers/s</th><th>p50, ms</th><th>p99, ms</th><th>failed</th><th>generator's CPU, us</th>"
    )
    return f"<h3>{escape(str(one.knobs))}</h3><table><thead><tr>{head}</tr></thead><tbody>{cells}</tbody></table>"
