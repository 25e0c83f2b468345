"""`RelativeAttention` computed faster: the relative shift copies nothing, and unused logits are not computed.

A block of R query rows, first row i, needs only the distances -(i + R - 1) .. T - 1 - i, so its relative logits are one
product (R, W) with W >= T + R - 1 columns. The column of key j moves by one to the left from row to row; a view whose
rows are W - 1 apart therefore shows the logits by key, and the relative shift of the published code costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import product
from threading import Barrier

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from enformer_ray.model.enformer import RelativeAttention, cached_position_features

BLOCK = 128
"""Query rows of a block on a CPU: the logits of one head (0.8 MB at full size) stay in the cache of one core."""

FUSED_BLOCK = 512
"""Query rows of a block elsewhere: two thirds of the relative logits of all rows at once, a third of their memory."""

_ALIGN = 8
"""Fused kernels read the bias in place if its rows begin at multiples of 8 elements (16 bytes of bfloat16)."""


class FastAttention:
    """`RelativeAttention` from its own weights, with the keys of all distances computed once.

    Args:
        attention: whose weights are used, in place.
        tokens: T, on which the keys of distances depend.

    Attributes:
        distances: (heads, key_size, columns); column `_zero_column(T)` + d is the key of distance d, scaled.
    """

    def __init__(self, attention: RelativeAttention, tokens: int) -> None:
        self._attention = attention
        weight = attention.relative_key.weight
        self.scale = attention.key_size**-0.5
        features = cached_position_features(tokens, attention.features, weight.dtype, weight.device)
        zero = _zero_column(tokens)
        keys = F.linear(features, weight * self.scale).T.reshape(attention.heads, attention.key_size, -1)
        # Zeros on both sides of the 2T - 1 distances: the columns of a block are rounded up, and reach into them.
        self.distances = F.pad(keys, (zero - tokens + 1, _round_up(zero + tokens + _ALIGN - 1) - zero - tokens))
        # Queries stay unscaled: the product with the keys is scaled instead, which costs nothing. So the biases are
        # divided by the scale.
        content, position = (bias[0] / self.scale for bias in (attention.content_bias, attention.position_bias))
        self._query_bias = content.flatten()
        self._position_bias = position - content

    def __call__(self, tokens: Tensor, first: int, rows: int) -> Tensor:
        """Attend from some tokens to every token.

        Args:
            tokens: (B, T, C).
            first: first token that attends.
            rows: how many do.

        Returns:
            (B, rows, C).
        """
        module = self._attention
        query, key, value = (
            projected.view(*projected.shape[:2], module.heads, -1).transpose(1, 2)
            for projected in (
                F.linear(tokens[:, first : first + rows], module.query.weight, self._query_bias),
                F.linear(tokens, module.key.weight),
                F.linear(tokens, module.value.weight),
            )
        )
        attend = attend_in_blocks if tokens.device.type == "cpu" else attend_fused
        distances, bias = self.distances.to(query.dtype), self._position_bias.to(query.dtype)
        attended = attend(query, key, value, distances, bias, first, self.scale)
        return F.linear(attended, module.output.weight, module.output.bias)


def attend_in_blocks(
    query: Tensor, key: Tensor, value: Tensor, distances: Tensor, bias: Tensor, first: int, scale: float
) -> Tensor:
    """Attention of one block of one head after the other, each on one thread.

    Args:
        query: (B, H, R, K), the content bias added.
        key: (B, H, T, K).
        value: (B, H, T, V).
        distances: (H, K, columns) of `FastAttention`.
        bias: (H, 1, K), what makes a query with the content bias one with the position bias.
        first: token of the first query.
        scale: of the products of queries and keys.

    Returns:
        (B, R, H * V).
    """
    batch, heads, rows, _ = query.shape
    tokens = key.shape[2]
    # Matrix products read contiguous keys and values up to 1.5 times faster than those of interleaved heads.
    keys, value = key.transpose(2, 3).contiguous(), value.contiguous()
    position_query = query + bias
    attended = query.new_empty(batch, rows, heads, value.shape[3])

    def attend(b: int, h: int, start: int) -> None:
        block = slice(start, min(start + BLOCK, rows))
        columns, offset = block_columns(first + start, block.stop - start, tokens)
        logits = by_key(torch.mm(position_query[b, h, block], distances[h, :, columns]), offset, tokens)
        # The rows of this view do not overlap, so the logits of content are added in place.
        torch.addmm(logits, query[b, h, block], keys[b, h], alpha=scale, out=logits)
        # Softmax by hand: in place, and divided only after the product with the values, which has fewer numbers.
        weights = logits.sub_(logits.amax(1, keepdim=True)).exp_()
        mean = attended[b, block, h]
        torch.mm(weights, value[b, h], out=mean).div_(weights.sum(1, keepdim=True))

    _on_threads(attend, product(range(batch), range(heads), range(0, rows, BLOCK)))
    return attended.flatten(2)


def attend_fused(
    query: Tensor, key: Tensor, value: Tensor, distances: Tensor, bias: Tensor, first: int, scale: float
) -> Tensor:
    """`attend_in_blocks` by torch's fused attention, to which the relative logits are a bias.

    Of its kernels only the memory-efficient one takes a bias in any strides and values wider than keys; what it does
    not take (float64, widths that are no multiple of 4) falls to the kernel of separate operations.
    """
    batch, rows, tokens = len(query), query.shape[2], key.shape[2]
    attended = []
    for start in range(0, rows, FUSED_BLOCK):
        queries = query[:, :, start : start + FUSED_BLOCK]
        columns, offset = block_columns(first + start, queries.shape[2], tokens)
        # Heads first: one product a head serves the whole batch.
        shifted = (queries + bias).transpose(0, 1).flatten(1, 2)
        logits = torch.bmm(shifted, distances[:, :, columns])
        logits = logits.view(len(logits), batch, -1, logits.shape[2])
        relative = by_key(logits, offset, tokens).transpose(0, 1)
        with sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]):
            block = F.scaled_dot_product_attention(queries, key, value, attn_mask=relative, scale=scale)
        attended.append(block.transpose(1, 2).flatten(2))
    return torch.cat(attended, dim=1)


def block_columns(first: int, rows: int, tokens: int) -> tuple[slice, int]:
    """Which distances a block of queries needs.

    Args:
        first: token of its first query.
        rows: queries in the block (R).
        tokens: T.

    Returns:
        The columns of the keys of distances, and `offset`, the one among them that holds key 0 of the first query.
        `offset` and the number of columns less one (the stride of `by_key`) are multiples of 8.
    """
    offset = _round_up(rows - 1)
    start = _zero_column(tokens) - first - offset
    return slice(start, start + offset + _round_up(tokens - 1) + 1), offset


def by_key(logits: Tensor, offset: int, tokens: int) -> Tensor:
    """View of relative logits by key.

    Args:
        logits: (..., R, W), contiguous in the last two dimensions; key j of row r is in column offset + j - r.
        offset: at least R - 1.
        tokens: T, at most W - offset.

    Returns:
        (..., R, T), sharing the memory of `logits`.
    """
    *leading, rows, width = logits.shape
    # One less than the width: each row begins one column further to the left than the row above it.
    strides = (*logits.stride()[:-2], width - 1, 1)
    return logits.as_strided((*leading, rows, tokens), strides, logits.storage_offset() + offset)


def _zero_column(tokens: int) -> int:
    """Column of the distance 0: far enough from the first column that no block begins before that."""
    return _round_up(tokens + _ALIGN - 1)


def _round_up(number: int) -> int:
    return -(-number // _ALIGN) * _ALIGN


def _on_threads(task: Callable[[int, int, int], None], items: Iterable[tuple[int, int, int]]) -> None:
    """Run independent tasks, as many at once as torch has threads."""
    threads = torch.get_num_threads()

    def run(item: tuple[int, int, int]) -> None:
        with torch.inference_mode():  # a setting of each thread
            task(*item)

    for _ in map(run, items) if threads == 1 else _pool(threads).map(run, items):
        pass


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads in which torch itself uses one thread each.

    A block is a dozen short operations. Split each of them over all threads, and most of the time goes into waiting for
    the last thread of each, many times over when other processes use the same cores.
    """
    started = Barrier(threads)

    def start() -> None:
        torch.get_num_threads()  # a thread's first operation would take the default over what was set before it
        torch.set_num_threads(1)
        started.wait()

    pool = ThreadPoolExecutor(threads, initializer=start)
    for _ in pool.map(lambda _: None, range(threads)):
        pass
    # What a thread sets holds for itself and as the default of threads to come: give those theirs back.
    torch.set_num_threads(threads)
    return pool
