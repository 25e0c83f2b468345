"""What an analysis needs of a study while it goes through the tracks, and what it says of it in the end.

A study itself is let go before tracks are read: its effects are needed as ranks, and its other columns no more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from enformer_ray.analysis.association.assays import MeanScores
from enformer_ray.analysis.association.blocks import Blocks, Rows, genome_blocks, lengths, read_bounds
from enformer_ray.analysis.association.controls import MIN_CASES, CaseControlSample, Cases, Sampler, find_cases
from enformer_ray.analysis.association.correlations import MIN_ROWS
from enformer_ray.analysis.association.covariates import Covariates, covariates_of
from enformer_ray.analysis.association.credible_sets import CredibleSets, Priors
from enformer_ray.analysis.association.methods import MIN_BLOCKS, Method
from enformer_ray.analysis.association.statistics import ALL_TRACKS, Shared, mean_columns
from enformer_ray.analysis.association.study import Study
from enformer_ray.analysis.options import AssociationOptions
from enformer_ray.errors import AnalysisError

_MIN_BLOCK_SIZE = 1_000_000  # bases; long-range LD reaches further than shorter ones

_NOTHING = np.empty(0, dtype=np.float32)


@dataclass
class Prepared:
    """A study, prepared.

    Attributes:
        variant: number of each variant in the run.
        sets: credible sets.
        priors: of their posteriors.
    """

    variant: Rows
    sets: CredibleSets
    priors: Priors
    _chi_square: NDArray[np.float32]
    _z: NDArray[np.float32]
    _covariates: Covariates
    _blocks: Blocks
    _sample: CaseControlSample
    _counts: dict[str, Any]
    _unfitted: list[str]
    """Chromosomes with credible sets, without enough cases on the others."""

    def shared(self, mean: MeanScores | None) -> Shared:
        """What the statistics of all tracks share, given the mean of all tracks."""
        return Shared(
            self._chi_square,
            self._z,
            self._covariates,
            self._blocks,
            self._sample if self._sample.computable else None,
            self.sets.with_pip,
            None if mean is None else mean_columns(mean.absolute()),
            None if mean is None else mean_columns(mean.signed()),
        )

    def forget_effects(self) -> None:
        """Let go of what statistics have taken over."""
        self._chi_square = self._z = _NOTHING

    def summary(self, methods: Mapping[str, Method], tracks: int, options: AssociationOptions) -> dict[str, Any]:
        """Options, counts, how p-values were found, and what a reader of the results must know; JSON values."""
        summary = self._counts | {"p_values": {name: method.summary() for name, method in methods.items()}}
        summary["enrichment"] |= {
            "conditional_on": [
                *self._covariates.shared,
                *([ALL_TRACKS] if tracks > 1 else []),
                *self._covariates.baseline,
            ]
        }
        summary["notes"] = _notes(summary, self._unfitted, options)
        return summary


def prepare(
    study: Study, unscored: int, options: AssociationOptions, aliases: Mapping[str, str] | None = None
) -> Prepared:
    """Prepare a study.

    Args:
        study: scored variants.
        unscored: number of those that were left out.
        options: of the analysis.
        aliases: further names of contigs in the annotation of genes.

    Raises:
        AnalysisError: too few variants for any statistic, or a file that cannot be read.
    """
    covariates = covariates_of(study, options.gtf, options.ld_scores, options.baseline, aliases)
    cases = find_cases(study, options)
    bounds = options.block_size if options.blocks_bed is None else read_bounds(options.blocks_bed, study.names)
    blocks = genome_blocks(study.chromosome, study.position, bounds, cases.whole)
    sampler, sets = Sampler(study, cases, covariates, options), CredibleSets(study)
    sample = sampler.draw()
    without = {int(c): sampler.draw(int(c)) for c in np.unique(sets.chromosome)}
    counts = _count(study, unscored, options)
    counts["blocks"] = {
        "from": f"{options.block_size:,} bases each" if options.blocks_bed is None else str(options.blocks_bed),
        "count": blocks.count,
        "median_length": int(np.median(lengths(blocks, study.position))),
        "with_cases": blocks.at(sample.rows[sample.cases]).count if sample.cases.any() else 0,
    }
    counts["enrichment"] = {
        "cases_are": cases.rule,
        "computed": sample.computable,
        "weight_of_cases": round(float(sample.weights[sample.cases].sum()), 3),
        "covariates": list(covariates.shared),
        **sample.counts,
    }
    _check_size(counts["variants"], sample, cases)
    return Prepared(
        study.variant,
        sets,
        Priors(without, covariates.shared),
        study.chi_square,
        study.z,
        covariates,
        blocks,
        sample,
        counts,
        [study.names[number] for number, other in without.items() if not other.computable],
    )


def _check_size(variants: Mapping[str, int], sample: CaseControlSample, cases: Cases) -> None:
    effects = variants["with_chi_square"]
    if effects < MIN_ROWS and not sample.computable and not variants["credible_sets"]:
        raise AnalysisError(
            f"only {effects} scored variants have an effect or a p-value (a correlation needs {MIN_ROWS}), and there "
            f"are no {MIN_CASES} cases with controls ({cases.rule}) and no credible sets: too few for any statistic. "
            "Give more summary statistics with --sumstats, or another --p-threshold."
        )


def _count(study: Study, unscored: int, options: AssociationOptions) -> dict[str, Any]:
    present = {
        "with_chi_square": study.chi_square,
        "with_direction": study.z,
        "with_frequency": study.minor_frequency,
        "with_pip": study.pip,
    }
    return {
        "variants": {
            "of_the_study": len(study) + unscored,
            "without_score": unscored,
            **{name: int((~np.isnan(values)).sum()) for name, values in present.items()},
            "in_credible_sets": int(study.in_set.sum()),
            "credible_sets": len(pc.unique(study.members.column("credible_set"))),
        },
        "options": json.loads(json.dumps(asdict(options), default=str)),
    }


def _notes(summary: dict[str, Any], unfitted: list[str], options: AssociationOptions) -> list[str]:
    """What a reader of the results must know, in sentences."""
    notes = []
    blocks, methods, enrichment = summary["blocks"]["count"], summary["p_values"], summary["enrichment"]
    if options.blocks_bed is None and options.block_size < _MIN_BLOCK_SIZE:
        notes.append(
            f"Blocks of {options.block_size:,} bases (--block-size) are shorter than LD may reach: p-values by "
            "jackknife are too small unless variants of neighbouring blocks are independent."
        )
    if blocks < MIN_BLOCKS:
        notes.append(f"There are only {blocks} blocks, {MIN_BLOCKS} are needed for p-values by jackknife.")
    few = [
        f"{name} ({method['informative_blocks']:.0f})" for name, method in methods.items() if method["by"] == "shifts"
    ]
    if few and options.permutations is None:
        notes.append(f"P-values by circular shifts, since few blocks hold information: {', '.join(few)}.")
    notes += [f"{name} has no p-value: {method['why']}." for name, method in methods.items() if method["by"] is None]
    if not enrichment["computed"]:
        notes.append(
            f"No enrichment: cases of a weight of {enrichment['weight_of_cases']:g} with "
            f"{enrichment.get('controls', 0)} controls, where {MIN_CASES} of each are needed."
        )
    if unfitted:
        notes.append(
            f"No posterior for credible sets on {', '.join(unfitted)}: the prior is fitted on the other chromosomes, "
            "which have too few cases."
        )
    return notes
