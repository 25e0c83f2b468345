"""The paths that a job names: listed with their keys, or made absolute; light, since `submit` lists them, too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from enformer_ray.catalogue.sources import STANDARD_INPUT, named_file, with_file
from enformer_ray.config import JobConfig


def named_paths(config: JobConfig) -> list[tuple[str, str]]:
    """Key in the job file and path of each file and previous run that a job reads.

    Regions to saturate and weights by their id on the Hub are no files, and left out.
    """
    paths: list[tuple[str, str]] = []

    def note(key: str, path: str) -> str:
        paths.append((key, path))
        return path

    _map_paths(config, note)
    return paths


def absolute_paths(config: JobConfig) -> JobConfig:
    """The job with absolute paths: workers start in another folder, where relative ones would mean other files."""

    def absolute(key: str, path: str) -> str:
        if "://" in path or (key == "variants" and path == STANDARD_INPUT) or key == "scoring.tracks":
            return path
        expanded = Path(path).expanduser()
        return path if key == "weights" and not expanded.exists() else str(expanded.absolute())

    return _map_paths(config, absolute)


def _map_paths(config: JobConfig, change: Callable[[str, str], str]) -> JobConfig:
    """The job with each path replaced by what `change` returns for its key in the job file and the path."""

    def changed(key: str, path: Path | None) -> Path | None:
        return None if path is None else Path(change(key, str(path)))

    def variant_source(source: str) -> str:
        file = named_file(source)
        return source if file is None else with_file(source, change("variants", file))

    def selector(text: str) -> str:
        return "file:" + change("scoring.tracks", text.removeprefix("file:")) if text.startswith("file:") else text

    catalogue, chain, genes, weights = config.catalogue, config.catalogue.chain, config.genes, config.weights
    is_file = Path(weights).expanduser().exists() or weights.endswith(".safetensors")  # else an id on the Hub
    updates: dict[str, Any] = {
        "variants": tuple(map(variant_source, config.variants)),
        "previous": tuple(change("previous", uri) for uri in config.previous),
        "genes": genes and genes.model_copy(update={"gtf": changed("genes.gtf", genes.gtf)}),
        "reference": changed("reference", config.reference),
        "tracks_table": changed("tracks_table", config.tracks_table),
    }
    files: dict[str, Any] = {"contig_aliases": changed("catalogue.contig_aliases", catalogue.contig_aliases)}
    if isinstance(chain, dict):
        files["chain"] = {pattern: changed("catalogue.chain", path) for pattern, path in chain.items()}
    else:
        files["chain"] = changed("catalogue.chain", chain)
    files["palindromic_frequencies"] = changed("catalogue.palindromic_frequencies", catalogue.palindromic_frequencies)
    updates["catalogue"] = catalogue.model_copy(update=files)
    updates["scoring"] = config.scoring.model_copy(update={"tracks": tuple(map(selector, config.scoring.tracks))})
    updates["weights"] = change("weights", weights) if is_file else weights
    return config.model_copy(update=updates)
