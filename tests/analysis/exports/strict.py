"""Strict readers of the published layouts: each does what the program that it stands for does with the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

COMPLEMENT = {"A": "T", "T": "A", "C": "G", "G": "C"}


def read_bim(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep=r"\s+", header=None, names=["CHR", "SNP", "CM", "BP", "A1", "A2"])


def ldsc_annotation(path: Path, bim: pd.DataFrame | None, thin: bool) -> pd.DataFrame:
    """As ldsc.py --l2 --annot reads it: four leading columns unless thin; the SNPs of the .bim in its order."""
    table = pd.read_csv(path, sep=r"\s+", compression="gzip")
    if not thin:
        assert list(table.columns[:4]) == ["CHR", "BP", "SNP", "CM"]
        if bim is not None:
            assert (table.SNP.to_numpy() == bim.SNP.to_numpy()).all()
        table = table.iloc[:, 4:]
    assert bim is None or len(table) == len(bim)
    assert not table.isna().any(axis=None)
    assert all(kind.kind in "if" for kind in table.dtypes)
    return table


def polyfun_annotation(path: Path, bim: pd.DataFrame) -> pd.DataFrame:
    """As PolyFun's compute_ldscores.py reads it: by chromosome, position and alleles in either order."""
    table = pd.read_parquet(path)
    assert list(table.columns[:5]) == ["CHR", "BP", "SNP", "A1", "A2"]
    table = table.loc[table["SNP"].isin(bim["SNP"])]
    other = table.copy()
    other[["A1", "A2"]] = table[["A2", "A1"]].to_numpy()
    for frame in (table, other, bim):
        frame.index = pd.Index(
            frame["CHR"].astype(str) + "." + frame["BP"].astype(str) + "." + frame["A1"] + "." + frame["A2"]
        )
    both = pd.concat([table, other])
    assert bim.index.isin(both.index).all(), "Not all SNPs have annotation values"
    both = both.loc[bim.index]
    assert (both["BP"] == bim["BP"]).all()
    values = both.drop(columns=["CHR", "BP", "SNP", "A1", "A2"])
    assert all(pd.api.types.is_numeric_dtype(values[name]) for name in values)
    return values


def sldp_annotation(path: Path, bim: pd.DataFrame) -> pd.DataFrame:
    """As SLDP's preprocessannot reads it (gprim.annotation.reconciled_to): turned to the A1 of the panel.

    Absent SNPs, indels and A/T or C/G SNPs are 0 to it.
    """
    table = pd.read_csv(path, sep="\t", compression="gzip")
    names = [name for name in table.columns if name not in {"SNP", "CHR", "CM", "BP", "A1", "A2"}]
    if "SNP" not in table:
        assert len(table) == len(bim)
        return table[names]
    merged = bim.merge(table[["SNP", "A1", "A2", *names]], on="SNP", how="left", suffixes=("", "_df"))
    assert len(merged) == len(bim)
    factor = []
    for row in merged.itertuples():
        mine, theirs = (row.A1, row.A2), (row.A1_df, row.A2_df)
        usable = all(base in COMPLEMENT for base in (*mine, *theirs)) and COMPLEMENT[mine[0]] != mine[1]
        flipped = tuple(COMPLEMENT[base] for base in theirs) if usable else ()
        same, turned = mine in (theirs, flipped), mine[::-1] in (theirs, flipped)
        factor.append(0 if not usable else 1 if same else -1 if turned else 0)
    return merged[names].fillna(0).mul(np.array(factor), axis=0)


def regenie_sets(
    prefix: Path, weights: bool = True
) -> tuple[dict[str, list[str]], dict[tuple[str, str], str], dict[str, list[str]]]:
    """Set list, annotations and masks as REGENIE's documentation has them; every file agrees with the others."""
    sets: dict[str, list[str]] = {}
    for line in prefix.with_name(prefix.name + ".setlist").read_text().splitlines():
        name, chromosome, position, variants = line.split()
        assert name not in sets
        assert chromosome.isalnum()
        assert int(position) > 0
        sets[name] = variants.split(",")
        assert len(set(sets[name])) == len(sets[name])
    annotations: dict[tuple[str, str], str] = {}
    for line in prefix.with_name(prefix.name + ".annotations").read_text().splitlines():
        variant, name, category = line.split()
        assert (variant, name) not in annotations
        annotations[variant, name] = category
    masks = {}
    for line in prefix.with_name(prefix.name + ".masks").read_text().splitlines():
        name, categories = line.split()
        masks[name] = categories.split(",")
    # --strict-check-burden
    assert {(variant, name) for name, variants in sets.items() for variant in variants} == set(annotations)
    known = {category for categories in masks.values() for category in categories}
    assert set(annotations.values()) <= known
    assert len(known) <= 63
    return sets, annotations, masks
