"""The folder that a web page is made of: the model, its card for people, and what runs it in a browser.

The page asks for its own files when it is opened, and for nothing afterwards: it forbids itself to, so that what is
typed or drawn there stays on the device. onnxruntime-web is no part of Trilha; it is copied from where the user has it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from components.errors import ConfigError

if TYPE_CHECKING:
    from components.edge import EdgeCard

HERE: Final = Path(__file__).parent
SCRIPTS: Final = ("model.js", "page.js")
PACKAGE: Final = "onnxruntime-web"
RUNTIME: Final = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
"""What of the package's folder `dist` a page needs: WebAssembly alone, on one thread or several."""


def write_page(card: EdgeCard, folder: Path) -> None:
    """Write `index.html`, which is the card for people, and the scripts that run the model."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(size=_size, number=_number)
    style = (HERE / "page.css").read_text(encoding="utf-8")
    page = environment.get_template("index.html.j2").render(
        card=card,
        example=json.dumps(dict(card.example), ensure_ascii=False, indent=1),
        answer=json.dumps(card.answer, ensure_ascii=False),
        style=Markup(style),  # our own file  # noqa: S704
        style_digest=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
    )
    (folder / "index.html").write_text(page, encoding="utf-8")
    for script in SCRIPTS:
        shutil.copyfile(HERE / script, folder / script)


def place_runtime(web: Path, folder: Path) -> str:
    """Copy what a page needs of the package onnxruntime-web; returns its version.

    Args:
        web: the package, or the `node_modules` that it is in.
        folder: the page's.

    Raises:
        ConfigError: the package is not there, or a file of it is not.
    """
    package = next((one for one in (web / PACKAGE, web) if (one / "package.json").is_file()), web)
    missing = [name for name in RUNTIME if not (package / "dist" / name).is_file()]
    if missing or not (package / "package.json").is_file():
        raise ConfigError(
            f"{web}: no {PACKAGE}" + (f" with dist/{missing[0]}" if missing else ""),
            accepted=f"the package's folder, or the node_modules that it is in; tested with {PACKAGE} 1.30",
            next_step=f"npm install {PACKAGE}",
        )
    (folder / PACKAGE).mkdir()
    for name in RUNTIME:
        shutil.copyfile(package / "dist" / name, folder / PACKAGE / name)
    return str(json.loads((package / "package.json").read_text(encoding="utf-8"))["version"])


def _size(count: int) -> str:
    """Bytes, for people."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
