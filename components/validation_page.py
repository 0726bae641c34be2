"""The Data Docs page of a validation: Great Expectations' own sections in one file that needs no network."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from components.records import ExpectationResult

if TYPE_CHECKING:
    from components.adapters.great_expectations import Verdict

_DEAD_LINK = re.compile(r'<a href="\.\.[^"]*"[^>]*>(.*?)</a>', re.DOTALL)
"""Great Expectations links to pages of a site that is not built here."""

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #212529; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.5rem; border-bottom: 2px solid #dee2e6; }
h5 { font-size: 1.05rem; margin: 0; } h6, .h6 { font-size: .95rem; font-weight: 600; margin: .3rem 0; }
table { border-collapse: collapse; margin: .5rem 0; width: 100%; } thead[hidden] { display: none; }
td, th { border: 1px solid #dee2e6; padding: .3rem .5rem; text-align: left; vertical-align: top; }
td { overflow-wrap: break-word; } td:last-child { overflow-wrap: anywhere; }
.alert { background: #e9ecef; border-radius: 4px; padding: .6rem .8rem; margin-top: 1rem; }
.badge { background: #6c757d; color: #fff; border-radius: 3px; padding: .05rem .35rem; font-size: .85em; }
.badge-danger { background: #c82333; }
.text-success { color: #1e7e34; } .text-danger { color: #c82333; } .text-warning { color: #b36b00; }
.fa-check-circle::before { content: "\\2714"; } .fa-times::before { content: "\\2718"; }
.fa-exclamation-triangle::before { content: "\\26A0"; }
i.fas { font-style: normal; }
.collapse { display: none; } .collapse:target { display: block; }
.critical td:first-child { border-left: 4px solid #c82333; } .warning td:first-child { border-left: 4px solid #b36b00; }
.held td:first-child { border-left: 4px solid #1e7e34; }
@media (prefers-color-scheme: dark) {
  body { background: #16181b; color: #dee2e6; } a { color: #8ab4f8; } td, th, h2 { border-color: #3a3f44; }
  .alert { background: #24282c; }
}
"""


def render(project: str, tree: str, results: Sequence[ExpectationResult], verdicts: Sequence[Verdict]) -> str:
    """The whole page: what came out at a glance, then each table as Great Expectations shows it."""
    from components.adapters.great_expectations import page

    failed = sum(not result.success and result.severity == "critical" for result in results)
    verdict = f"{failed} critical failed" if failed else "passed"
    broken = [result for result in results if not result.success]
    held = [result for result in results if result.success]
    sections = _DEAD_LINK.sub(r"\1", page(verdicts))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(project)}: validation {verdict}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{escape(project)}: validation {verdict}</h1>
<p>{len(results)} expectations on data <code>{escape(tree[:12])}</code>: {len(held)} held, {failed} critical failed,
{len(broken) - failed} warned.</p>
{_table(sorted(broken, key=lambda result: result.severity)) if broken else ""}
<details><summary>The {len(held)} that held</summary>
{_table(held)}
</details>
<h2>Great Expectations</h2>
{sections}
</body>
</html>
"""


def _table(results: Sequence[ExpectationResult]) -> str:
    names = ("Table", "Column", "Expectation", "Expected", "Observed", "Notes")
    heading = "".join(f"<th>{name}</th>" for name in names)
    rows = "\n".join(map(_row, results))
    return f"<table>\n<thead><tr>{heading}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>"


def _row(result: ExpectationResult) -> str:
    kind = "held" if result.success else result.severity
    name = result.expectation if result.success else f"{result.expectation} ({result.severity})"
    cells = (result.table, result.column or "", name, result.expected, result.observed, result.notes)
    return f'<tr class="{kind}">' + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
