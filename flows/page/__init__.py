"""The release page: one self-contained HTML file that says what a release is, how good, and where it came from."""

from __future__ import annotations

from flows.page.write import write_page

__all__ = ["write_page"]
