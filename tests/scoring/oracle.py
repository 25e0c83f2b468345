"""Scores the long way round, in float64: whole windows cut from strings, one pass at a time, definitions as written.

Written from the definitions alone. It shares the network with the package and nothing else: no coordinates, no
sequence codes, no indel arithmetic, no statistics.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from enformer_ray.model.enformer import Enformer

Array = NDArray[np.float64]

_PAIRS = {"A": "T", "C": "G", "G": "C", "T": "A", "N": "N"}


def flipped(bases: str) -> str:
    """The reverse complement."""
    return "".join(_PAIRS[base] for base in reversed(bases))


def cut(bases: str, start: int, end: int) -> str:
    """Bases start..end (0-based half-open), N where there are none."""
    inside = bases[max(0, start) : max(0, end)]
    left = min(max(0, -start), end - start)
    return "N" * left + inside + "N" * (end - start - left - len(inside))


def minimal(start: int, reference: str, alternate: str) -> tuple[int, str, str]:
    """An edit without the bases that both alleles begin with, then without those that both end with."""
    while reference and alternate and reference[0] == alternate[0]:
        start, reference, alternate = start + 1, reference[1:], alternate[1:]
    while reference and alternate and reference[-1] == alternate[-1]:
        reference, alternate = reference[:-1], alternate[:-1]
    return start, reference, alternate


@dataclass
class Oracle:
    """Scores of one variant at a time.

    Attributes:
        model: float64.
        genome: upper-case A C G T N by chromosome.
        centre_width: of each of `tracks`, bp; without it there is no `centre`.
    """

    model: Enformer
    genome: Mapping[str, str]
    tracks: Sequence[int]
    head: str = "human"
    placement: str = "binned"
    stride: int = 32
    indel: str = "local"
    reverse_complement: bool = False
    shifts: int | Sequence[int] = 1
    centre_width: Sequence[int] | None = None
    _tokens: dict[str, torch.Tensor] = field(default_factory=dict)

    @cached_property
    def _length(self) -> int:
        return self.model.config.sequence_length

    def scores(self, chromosome: str, position: int, reference: str, alternate: str) -> dict[str, Array]:
        """Every statistic, (tracks,) each, of a record as VCF states it (1-based position)."""
        self._tokens.clear()
        first_base = position - 1
        assert self.genome[chromosome][first_base : first_base + len(reference)] == reference
        at_each_shift = []
        for shift in self._shifts():
            start = first_base - self._length // 2
            if self.placement == "centred":
                start += 1  # so that the first base is at index length/2 - 1
            elif self.placement == "binned":
                start = 128 * math.floor(start / 128)
            elif self.placement == "shared":
                # The multiple of the stride that is nearest, the upper one of two.
                start = 128 * self.stride * math.floor(start / (128 * self.stride) + 0.5)
            start -= shift
            pair = self._predictions(chromosome, first_base, reference, alternate, start)
            at_each_shift.append(self._statistics(*pair, start - first_base))
        return {name: np.mean([scores[name] for scores in at_each_shift], axis=0) for name in at_each_shift[0]}

    def _shifts(self) -> list[int]:
        if isinstance(self.shifts, int):
            return [k * (128 // self.shifts + 1) for k in range(self.shifts)]
        return list(self.shifts)

    def convention(self, reference: str, alternate: str) -> str:
        change = abs(len(alternate) - len(reference))
        if change == 0:
            return "none"
        return "anchored" if self.indel == "anchored" or change >= 128 else "local"

    def _predictions(
        self, chromosome: str, first_base: int, reference: str, alternate: str, start: int
    ) -> tuple[Array, Array]:
        """Predictions (bins, tracks) of both alleles in the window at `start`, averaged over the strands."""
        bases = self.genome[chromosome]
        end = start + self._length
        if self.convention(reference, alternate) == "local":
            forward = self._local(bases, first_base, reference, alternate, start)
            if not self.reverse_complement:
                return forward
            mirrored_base = len(bases) - (first_base + len(reference))
            reverse = self._local(
                flipped(bases), mirrored_base, flipped(reference), flipped(alternate), len(bases) - end
            )
        else:
            changed = bases[:first_base] + alternate + bases[first_base + len(reference) :]
            windows = cut(bases, start, end), cut(changed, start, end)
            forward = self._predict(self._trunk(windows[0])), self._predict(self._trunk(windows[1]))
            if not self.reverse_complement:
                return forward
            reverse = (
                self._predict(self._trunk(flipped(windows[0]))),
                self._predict(self._trunk(flipped(windows[1]))),
            )
        return (forward[0] + reverse[0][::-1]) / 2, (forward[1] + reverse[1][::-1]) / 2

    def _local(self, bases: str, first_base: int, reference: str, alternate: str, s: int) -> tuple[Array, Array]:
        e, removed, inserted = minimal(first_base, reference, alternate)
        d = len(inserted) - len(removed)
        changed = bases[:e] + inserted + bases[e + len(removed) :]
        length = self._length
        window = {start: self._trunk(cut(bases, start, start + length)) for start in (s, s - d, s + d)}

        # In the changed chromosome bases before the edit keep their coordinates, those after it move by d.
        a_left = self._trunk(cut(changed, s, s + length))
        a_right = self._trunk(cut(changed, s + d, s + d + length))
        v_left, v_right = math.floor((e - s) / 128), math.floor((e - s - d) / 128)

        def joined(left: torch.Tensor, right: torch.Tensor, at: int) -> torch.Tensor:
            return torch.cat([left[:at], right[at:]])

        h_left = (joined(window[s], window[s - d], v_left) + joined(window[s], window[s - d], v_left + 1)) / 2
        h_right = (joined(window[s + d], window[s], v_right) + joined(window[s + d], window[s], v_right + 1)) / 2
        # Outside the reach of the edit both differences are zero by themselves, so that no reach is needed here.
        tokens = window[s] + ((a_left - h_left) + (a_right - h_right)) / 2
        return self._predict(window[s]), self._predict(tokens)

    def _trunk(self, bases: str) -> torch.Tensor:
        if bases not in self._tokens:
            one_hot = np.array(list(bases))[:, None] == np.array(list("ACGT"))
            with torch.inference_mode():
                self._tokens[bases] = self.model.trunk(torch.from_numpy(one_hot).double()[None])[0]
        return self._tokens[bases]

    def _predict(self, tokens: torch.Tensor) -> Array:
        with torch.inference_mode():
            whole_head = self.model.predict(self.model.embed(tokens[None]), self.head)[0]
        return np.asarray(whole_head.numpy()[:, list(self.tracks)])

    def _statistics(self, r: Array, a: Array, window_offset: int) -> dict[str, Array]:
        """Statistics of predictions in a window that starts `window_offset` bp from the first base of the record."""
        largest = np.abs(a - r).argmax(axis=0)
        scores = {
            "sad": (a - r).sum(axis=0),
            "log2_ratio": np.log2((a.sum(axis=0) + 1) / (r.sum(axis=0) + 1)),
            "log_sad": (np.log2(a + 1) - np.log2(r + 1)).sum(axis=0),
            "sax": np.array([a[b, track] - r[b, track] for track, b in enumerate(largest)]),
            "d2": np.sqrt(((a - r) ** 2).sum(axis=0)),
            "ref": r.sum(axis=0),
            "alt": a.sum(axis=0),
        }
        if self.centre_width is not None:
            trimmed = (self._length // 128 - len(r)) // 2
            centre = []
            for track, width in enumerate(self.centre_width):
                around = set(range(-(width // 2), width // 2 + 1))
                bins = [
                    b
                    for b in range(len(r))
                    if around & set(range(window_offset + 128 * (trimmed + b), window_offset + 128 * (trimmed + b + 1)))
                ]
                centre.append(math.log2((a[bins, track].sum() + 1) / (r[bins, track].sum() + 1)))
            scores["centre_log2_ratio"] = np.array(centre)
        return scores
