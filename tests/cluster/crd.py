"""A strict check of a manifest against a CustomResourceDefinition.

The API server drops fields that the schema does not know without a word, so here they are errors.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}
_KNOWN = {
    "type", "properties", "required", "items", "additionalProperties", "enum", "minimum", "maximum", "pattern",
    "anyOf", "default", "format", "maxLength", "minLength", "maxItems", "minItems", "nullable", "description",
    "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields", "x-kubernetes-validations",
    "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type", "x-kubernetes-embedded-resource",
}  # fmt: skip
"""Keywords that this check handles, or may leave out of account: rules in CEL compare with a stored object."""


def schema(path: Path, version: str) -> dict[str, Any]:
    """The openAPIV3Schema of a served version."""
    definition = yaml.load(path.read_text(), _LOADER)  # a megabyte or more
    (found,) = (v for v in definition["spec"]["versions"] if v["name"] == version and v["served"])
    return dict(found["schema"]["openAPIV3Schema"])


def errors(value: Any, rule: dict[str, Any], where: str = "") -> Iterator[str]:
    """What is wrong with a value, a line each."""
    if unknown := rule.keys() - _KNOWN:
        raise NotImplementedError(f"{where}: the schema uses {sorted(unknown)}, which this check does not know")
    if rule.get("x-kubernetes-int-or-string"):
        if isinstance(value, bool) or not isinstance(value, int | str):
            yield f"{where}: {value!r} is neither integer nor string"
        elif "pattern" in rule and not re.search(rule["pattern"], str(value)):
            yield f"{where}: {value!r} is no quantity"
        return
    kind = rule.get("type")
    wanted = _TYPES[kind] if kind else object
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind in ("integer", "number")):
        yield f"{where}: {value!r} is no {kind}"
        return
    yield from _limits(value, rule, where)
    if isinstance(value, dict):
        yield from _object(value, rule, where)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from errors(item, rule.get("items", {}), f"{where}[{i}]")


def _limits(value: Any, rule: dict[str, Any], where: str) -> Iterator[str]:
    if "enum" in rule and value not in rule["enum"]:
        yield f"{where}: {value!r} is none of {rule['enum']}"
    if "pattern" in rule and not re.search(rule["pattern"], value):
        yield f"{where}: {value!r} does not match {rule['pattern']}"
    if "minimum" in rule and value < rule["minimum"]:
        yield f"{where}: {value!r} is below {rule['minimum']}"
    if "maximum" in rule and value > rule["maximum"]:
        yield f"{where}: {value!r} is above {rule['maximum']}"
    size = len(value) if isinstance(value, str | list) else None
    if size is not None and not rule.get("minLength", rule.get("minItems", 0)) <= size <= rule.get(
        "maxLength", rule.get("maxItems", size)
    ):
        yield f"{where}: {size} characters or items"


def _object(value: dict[str, Any], rule: dict[str, Any], where: str) -> Iterator[str]:
    for name in rule.get("required", []):
        if name not in value:
            yield f"{where}.{name}: missing"
    properties, others = rule.get("properties", {}), rule.get("additionalProperties")
    if not properties and others is None and (rule.get("x-kubernetes-preserve-unknown-fields") or where == ".metadata"):
        return
    for name, item in value.items():
        if name in properties:
            yield from errors(item, properties[name], f"{where}.{name}")
        elif isinstance(others, dict):
            yield from errors(item, others, f"{where}.{name}")
        elif not (others is True or rule.get("x-kubernetes-preserve-unknown-fields")):
            yield f"{where}.{name}: unknown field"


def with_value(manifest: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """A copy of a manifest with another value at a dotted path, whose last part may be new."""
    changed = copy.deepcopy(manifest)
    *rooms, last = path.split(".")
    target = changed
    for room in rooms:
        target = target[room]
    target[last] = value
    return changed
