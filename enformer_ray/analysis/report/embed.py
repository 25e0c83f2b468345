"""Putting things into a page such that nothing in them can become markup or script."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from typing import Any

from markupsafe import Markup

_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def json_block(values: Any) -> Markup:
    """JSON for a `<script type="application/json">`: what could end the element, or open a comment, is escaped.

    Numbers that are no number (NaN, infinities) become null.
    """
    text = json.dumps(_finite(values), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character, escaped in _ESCAPES.items():
        text = text.replace(character, escaped)
    # A lone surrogate, as file names that are no UTF-8 have them, cannot be written to a file.
    return Markup(text.encode("utf-8", "replace").decode())


def content_hash(text: str) -> str:
    """Source expression of an inline script or style for a Content-Security-Policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def policy(scripts: list[str], styles: list[str]) -> str:
    """A Content-Security-Policy that runs just these inline scripts and styles, and lets nothing be loaded."""
    return (
        f"default-src 'none'; script-src {' '.join(map(content_hash, scripts))}; "
        f"style-src {' '.join(map(content_hash, styles))}; img-src data:; base-uri 'none'; form-action 'none'"
    )


def shortened(text: str, most: int = 80) -> str:
    """A text as it is shown: beginning and end of one that is too long, and its length where much is left out."""
    if len(text) <= most:
        return text
    length = f" ({len(text):,} characters)" if len(text) > 3 * most else ""
    half = (most - len(length) - 3) // 2
    return f"{text[: max(4, half)]}...{text[-max(4, half) :]}{length}"


def rounded(number: float, digits: int = 5) -> float | None:
    """A number with so many significant digits; None for one that is none."""
    return float(f"{number:.{digits}g}") if math.isfinite(number) else None


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
