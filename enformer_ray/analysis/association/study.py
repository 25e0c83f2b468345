"""Summary statistics of a study joined to the scored variants of a run: one row a variant, in genome order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy import special

from enformer_ray.analysis.association.blocks import Values
from enformer_ray.analysis.association.records import ChromosomeRecords
from enformer_ray.errors import AnalysisError
from enformer_ray.readers.conversions import LARGEST_UNDERFLOW

Floats = NDArray[np.float32]

P_UNDERFLOW = "p_underflow"
"""Count of records with a p-value of 0, which counts as the smallest number that a float64 can hold."""

MAX_NEG_LOG_10_P = 1e5
"""Of p-values that a study can have; a larger one, or infinity, counts as a p-value of 0."""

SAME, REVERSED, UNCLEAR = 1, -1, 0
MEMBERS_SCHEMA = pa.schema(
    {"variant": pa.int64(), "variant_id": pa.string(), "credible_set": pa.string(), "pip": pa.float64()}
)


def directions(records: pa.Table) -> NDArray[np.int8]:
    """For each record 1 if its effect allele is the alternate one, -1 if it is the reference, 0 if that is unclear.

    effect_allele and other_allele are as the study has them (null: the effect allele is the alternate one by the
    format), reference_allele and alternate_allele those of the normalised variant.
    """
    effect, other = records.column("effect_allele"), records.column("other_allele")
    found = np.full(records.num_rows, UNCLEAR, dtype=np.int8)
    for sign, first, second in (
        (REVERSED, "reference_allele", "alternate_allele"),
        (SAME, "alternate_allele", "reference_allele"),
    ):
        others_agree = pc.or_kleene(pc.is_null(other), pc.equal(other, records.column(second)))
        found[_flags(pc.and_(pc.equal(effect, records.column(first)), others_agree))] = sign
    found[_flags(pc.is_null(effect))] = SAME
    rest = np.flatnonzero(found == UNCLEAR)
    if len(rest):  # indels that normalisation has trimmed or moved
        rows = records.select(["effect_allele", "other_allele", "reference_allele", "alternate_allele"])
        found[rest] = [_direction(**row) for row in rows.take(pa.array(rest)).to_pylist()]
    return found


def _flags(values: Any) -> NDArray[np.bool_]:
    flags: NDArray[np.bool_] = pc.fill_null(values, False).to_numpy()
    return flags


def _direction(effect_allele: str, other_allele: str | None, reference_allele: str, alternate_allele: str) -> int:
    if other_allele is None:
        return UNCLEAR
    effect, other = effect_allele.upper(), other_allele.upper()
    change, stated = len(alternate_allele) - len(reference_allele), len(effect) - len(other)
    if change or stated:
        # Moving an indel to the left rotates its bases and keeps its length.
        return SAME if stated == change else REVERSED if stated == -change else UNCLEAR
    trimmed = _trimmed(other, effect)
    if trimmed == _trimmed(reference_allele, alternate_allele):
        return SAME
    return REVERSED if trimmed == _trimmed(alternate_allele, reference_allele) else UNCLEAR


def _trimmed(reference: str, alternate: str) -> tuple[str, str]:
    """Alleles of equal length without the bases that they share at both ends."""
    differing = [i for i, (a, b) in enumerate(zip(reference, alternate, strict=True)) if a != b]
    if not differing:
        return "", ""
    kept = slice(differing[0], differing[-1] + 1)
    return reference[kept], alternate[kept]


@dataclass(frozen=True)
class Study:
    """Summary statistics of each variant; signs are those of the alternate allele.

    Attributes:
        variant: number of the variant in the run, ascending: its row in every table of scores.
        chromosome: index in `names`.
        position: 1-based.
        z: effect in standard errors; NaN where the study has no direction.
        chi_square: z^2, or that of the p-value.
        log_p: natural logarithm of the p-value.
        minor_frequency: of the rarer of the two alleles.
        pip: largest posterior inclusion probability of the variant.
        in_set: whether it is a member of a credible set.
        unknown: unknown bases in its window.
        indel: whether its alleles differ in length.
        names: chromosomes.
        members: `MEMBERS_SCHEMA`, a row a variant and credible set.
    """

    variant: NDArray[np.int64]
    chromosome: NDArray[np.int16]
    position: NDArray[np.int32]
    z: Floats
    chi_square: Floats
    log_p: Floats
    minor_frequency: Floats
    pip: Floats
    in_set: NDArray[np.bool_]
    unknown: NDArray[np.int32]
    indel: NDArray[np.bool_]
    names: tuple[str, ...] = ()
    members: pa.Table = field(default_factory=MEMBERS_SCHEMA.empty_table)

    def __len__(self) -> int:
        return len(self.variant)

    def take(self, rows: NDArray[np.bool_]) -> Study:
        """The variants of some rows, with all members."""
        cut = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name not in ("names", "members")}
        return Study(**cut, names=self.names, members=self.members)


def study_from_arrays(
    variant: NDArray[np.int64],
    chromosome: NDArray[np.integer],
    position: NDArray[np.integer],
    z: Values,
    chi_square: Values,
    log_p: Values,
    frequency: Values,
    pip: Values,
    in_set: NDArray[np.bool_],
    unknown: NDArray[np.integer],
    indel: NDArray[np.bool_],
    names: tuple[str, ...],
    members: pa.Table | None = None,
) -> Study:
    """A study from float64 arrays, one value a variant, in the types that keep 10^8 variants in memory.

    All are as the attributes of `Study`, but for `frequency`, which is that of the alternate allele.
    """
    # Rounded, so that 1 - 0.8 and 0.2 are the same frequency whichever allele a file counts.
    minor = np.minimum(frequency, 1 - frequency).round(9)
    return Study(
        variant=variant.astype(np.int64),
        chromosome=chromosome.astype(np.int16),
        position=position.astype(np.int32),
        z=z.astype(np.float32),
        chi_square=chi_square.astype(np.float32),
        log_p=log_p.astype(np.float32),
        minor_frequency=minor.astype(np.float32),
        pip=pip.astype(np.float32),
        in_set=in_set,
        unknown=unknown.astype(np.int32),
        indel=indel,
        names=names,
        members=MEMBERS_SCHEMA.empty_table() if members is None else members,
    )


def read_study(chromosomes: Iterable[ChromosomeRecords], counts: Counter[str]) -> Study:
    """Collect records into a study.

    Where several records are of one variant, the effect is that of the first record with an effect, the frequency that
    of the first with a frequency, and the PIP the largest.

    Args:
        chromosomes: records, in genome order.
        counts: of records by their use; those found here are subtracted from `not_in_run`. `P_UNDERFLOW` is not a use.

    Raises:
        AnalysisError: no record has an effect, a p-value, a PIP or a credible set.
    """
    studies: list[Study] = []
    names: list[str] = []
    members: list[pa.Table] = []
    for chromosome in chromosomes:
        counts["not_in_run"] -= chromosome.records.num_rows
        study, kept = _of_chromosome(chromosome.records, len(names), counts)
        names.append(chromosome.chromosome)
        studies.append(study)
        members.append(kept)
    if not counts["not_in_run"]:
        del counts["not_in_run"]
    if not any(map(len, studies)):
        raise AnalysisError(_no_statistics(counts))
    joined = {f.name: np.concatenate([getattr(study, f.name) for study in studies]) for f in fields(Study)[:-2]}
    return Study(**joined, names=tuple(names), members=pa.concat_tables(members))


def _no_statistics(counts: Counter[str]) -> str:
    ends = ", ".join(f"{count:,} {name}" for name, count in counts.most_common()) or "none at all"
    return (
        "no record of a scored variant has an effect (beta and standard error), a p-value, a PIP or a credible set; "
        f"the records were: {ends}. Give summary statistics of the same assembly with --sumstats, name their columns "
        "with --columns, or score files that have such columns (docs/inputs.md)."
    )


def _of_chromosome(records: pa.Table, number: int, counts: Counter[str]) -> tuple[Study, pa.Table]:
    direction = directions(records)
    clear = direction != UNCLEAR
    z, log_p, chi_square = _effects(records, direction)
    pip, in_set = _floats(records, "pip"), records.column("credible_set").is_valid().to_numpy()
    effect = clear & ~np.isnan(chi_square)
    counts[P_UNDERFLOW] += int(_is_zero(records).sum())
    mapped = in_set | ~np.isnan(pip)  # of use for fine-mapping even without an effect
    variant = records.column("variant").to_numpy()
    unique, first, of_variant = np.unique(variant, return_index=True, return_inverse=True)
    with_effect, chosen = np.unique(of_variant[effect], return_index=True)
    chosen = np.flatnonzero(effect)[chosen]
    _count_uses(counts, clear, effect, mapped, chosen)

    def by_variant(values: Values) -> Values:
        spread = np.full(len(unique), np.nan)
        spread[with_effect] = values[chosen]
        return spread

    largest = np.full(len(unique), -np.inf)
    np.maximum.at(largest, of_variant, np.where(np.isnan(pip), -np.inf, pip))
    member = np.zeros(len(unique), dtype=np.bool_)
    member[of_variant[in_set]] = True
    study = study_from_arrays(
        variant=unique,
        chromosome=np.full(len(unique), number),
        position=records.column("position").to_numpy()[first],
        z=by_variant(z),
        chi_square=by_variant(chi_square),
        log_p=by_variant(log_p),
        frequency=_frequencies(records, direction, of_variant, len(unique)),
        pip=np.where(np.isinf(largest), np.nan, largest),
        in_set=member,
        unknown=records.column("unknown_bases").to_numpy()[first],
        indel=_indels(records)[first],
        names=(),
    )
    useful = ~np.isnan(study.chi_square) | member | ~np.isnan(study.pip)
    rows = records.select(MEMBERS_SCHEMA.names).filter(pa.array(in_set)).cast(MEMBERS_SCHEMA)
    return study.take(useful), rows


def _count_uses(
    counts: Counter[str],
    clear: NDArray[np.bool_],
    effect: NDArray[np.bool_],
    mapped: NDArray[np.bool_],
    chosen: NDArray[np.int64],
) -> None:
    """Count records by their use: of several effects of a variant the chosen one."""
    repeated = effect.copy()
    repeated[chosen] = False
    counts["effect_allele_unclear"] += int((~clear & ~mapped).sum())
    counts["no_statistics"] += int((clear & ~effect & ~mapped).sum())
    counts["another_record_used"] += int((repeated & ~mapped).sum())
    counts["used"] += int((mapped | (effect & ~repeated)).sum())
    for name in [name for name, count in counts.items() if not count]:
        del counts[name]


def _effects(records: pa.Table, direction: NDArray[np.int8]) -> tuple[Values, Values, Values]:
    """Z of the alternate allele, ln p, and chi-square; each NaN where it is unknown."""
    beta, error = _floats(records, "beta"), _floats(records, "standard_error")
    neg_log = _floats(records, "neg_log_10_p_value")
    neg_log = np.where(neg_log > MAX_NEG_LOG_10_P, LARGEST_UNDERFLOW, neg_log)
    # Older plans have no logarithm of a p-value of 0.
    log_p = -np.log(10) * np.where(np.isnan(neg_log) & _is_zero(records), LARGEST_UNDERFLOW, neg_log)
    log_p[~(log_p <= 0)] = np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where((error > 0) & np.isfinite(beta), beta / error, np.nan)
        # The quantile of half the p-value, in logarithms: p-values may be far below the smallest float64.
        of_p = -special.ndtri_exp(np.minimum(log_p, 0) - np.log(2))
    # A z score that the file has itself comes before one of beta's sign and the p-value.
    z = np.where(np.isnan(z), _floats(records, "z_score"), z)
    z = np.where(np.isnan(z), np.sign(beta) * of_p, z)
    z[~np.isfinite(z)] = np.nan
    chi_square = np.where(np.isnan(z), of_p**2, z**2)
    chi_square[~np.isfinite(chi_square)] = np.nan
    log_p = np.where(np.isnan(log_p), np.log(2) + special.log_ndtr(-np.sqrt(chi_square)), log_p)
    return z * np.where(direction == REVERSED, -1.0, 1.0), log_p, chi_square


def _frequencies(records: pa.Table, direction: NDArray[np.int8], of_variant: NDArray[np.int64], count: int) -> Values:
    """Frequency of the alternate allele of each variant, from the first record that has one."""
    frequency = _floats(records, "effect_allele_frequency")
    frequency = np.where(direction == REVERSED, 1 - frequency, frequency)
    usable = np.flatnonzero((frequency >= 0) & (frequency <= 1) & (direction != UNCLEAR))
    found, first = np.unique(of_variant[usable], return_index=True)
    spread = np.full(count, np.nan)
    spread[found] = frequency[usable[first]]
    return spread


def _indels(records: pa.Table) -> NDArray[np.bool_]:
    lengths = (pc.binary_length(records.column(name)) for name in ("reference_allele", "alternate_allele"))
    unequal: NDArray[np.bool_] = pc.not_equal(*lengths).to_numpy()
    return unequal


def _is_zero(records: pa.Table) -> NDArray[np.bool_]:
    return _flags(pc.equal(records.column("p_value"), 0.0))


def _floats(records: pa.Table, name: str) -> Values:
    if name not in records.column_names:  # of a run of an older version
        return np.full(records.num_rows, np.nan)
    values: Values = records.column(name).to_numpy().astype(np.float64)
    return values
