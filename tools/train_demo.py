"""Train the demo's network: `make demo-model` runs this script to write the weights that the package ships.

Each step uses windows of new random sequences, labelled by the rule; the demo's genome is made from other seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, cast

import numpy as np
import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn

from enformer_ray.demo import rule, world
from enformer_ray.demo.rule import read_motifs
from enformer_ray.model.checkpoint import save_weights
from enformer_ray.model.enformer import (
    EPSILON,
    GELU_FACTOR,
    BatchNorm,
    ConvBlock,
    DownsampleBlock,
    Enformer,
    SoftmaxPool,
)
from enformer_ray.model.geometry import EnformerConfig

HEAD = "human"

MOMENTUM = 0.1
"""Of batch normalisation; the published training had a decay of 0.9."""

CONFIG = EnformerConfig(
    sequence_length=16_384,
    target_length=112,
    channels=72,
    layers=2,
    heads=6,
    key_size=16,
    divisible_by=4,
    output_heads={HEAD: len(rule.TRACKS)},
)
BATCH = 4

WINDOWS = 8
"""Windows that are cut from one random sequence."""

LONE_SITES = (world.LONE_SITES, 6 * world.LONE_SITES)
"""Density in a random sequence: as in the demo, or much higher, which teaches motifs sooner."""

LEARNING_RATE = 2e-3

WARM_UP = 100
"""Steps in which the learning rate rises to its maximum."""

MOTIF_SCALE = 0.1
"""Weight of one bit in a filter that begins as a motif."""

NOISE = 0.3
"""Scale of torch's random initial weights in layers that begin near the identity."""

LOSS_WEIGHTS = {"CHIP": 1.0, "DNASE": 0.5, "CAGE": 0.1}
"""By assay: with equal ones expression, which is highest, would hide binding, from which it follows."""


def train(steps: int, seed: int, report: Callable[[int, float, Enformer], None]) -> Enformer:
    """Train a network.

    Args:
        steps: number of batches; the learning rate falls to zero over them.
        seed: of the initial weights and of all sequences.
        report: called after every step with its number, its loss and the network.
    """
    torch.manual_seed(seed)
    network = _untrained().requires_grad_(True)
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, steps))
    weights = torch.tensor([LOSS_WEIGHTS[track.assay] for track in rule.TRACKS])
    batches = _batches(np.random.default_rng(seed))
    for step in range(steps):
        one_hot, labels = next(batches)
        predicted = predict(network, one_hot, HEAD)
        loss = (weights * F.poisson_nll_loss(predicted, labels, log_input=False, full=True, reduction="none")).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        report(step + 1, float(loss.detach()), network)
    return network.requires_grad_(False)


def _untrained() -> Enformer:
    """A new network with initial weights from prior knowledge, so that half an hour of training is enough.

    Pooling begins as a soft maximum (twice the identity), as in the published training. The first filters begin as the
    motifs on both strands, as in DanQ (Quang and Xie, Nucleic Acids Research 2016), and the convolutions after them
    near the identity, so that their output reaches the tokens; all else is random.
    """
    network = Enformer(CONFIG)
    for block in (network.stem, *network.tower):
        block = cast(DownsampleBlock, block)
        logits = block.pool.logits.weight
        logits.copy_(2 * torch.eye(len(logits))[..., None, None])
        block.residual.conv.weight.mul_(NOISE)
        if isinstance(block.conv, ConvBlock):
            kernel = block.conv.conv.weight
            kernel.mul_(NOISE)[:, :, kernel.shape[2] // 2] += torch.eye(*kernel.shape[:2])
    filters = cast(nn.Conv1d, network.stem.conv).weight
    strands = [w for m in read_motifs().values() for w in (m.weights, m.weights[::-1, ::-1])]
    for row, weights in zip(filters, strands, strict=False):
        first = max(0, len(weights) - row.shape[1]) // 2
        middle = torch.from_numpy(weights[first : first + row.shape[1]].T.copy()) * MOTIF_SCALE
        start = (row.shape[1] - middle.shape[1]) // 2
        row.zero_()[:, start : start + middle.shape[1]] = middle
    return network


def _rate(step: int, steps: int) -> float:
    """Learning rate as a share of its maximum: linear warm-up, then half a cosine down to zero."""
    return min((step + 1) / WARM_UP, 0.5 * (1 + math.cos(math.pi * step / steps)))


def _batches(random: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """One-hot sequences (B, L, 4) and their labels (B, bins, tracks)."""
    length, crop, bins = CONFIG.sequence_length, CONFIG.crop, CONFIG.bins
    windows: list[tuple[Tensor, Tensor]] = []
    while True:
        while len(windows) < BATCH:
            codes, _ = world.contig(random, WINDOWS * length, int(random.choice(LONE_SITES)))
            labels = torch.from_numpy(rule.tracks(codes))
            one_hot = F.one_hot(torch.from_numpy(codes.astype(np.int64)), 4).float()
            for start in range(0, len(codes), length):
                first = start // CONFIG.bin + crop
                windows.append((one_hot[start : start + length], labels[first : first + bins]))
        chosen, windows = windows[:BATCH], windows[BATCH:]
        yield torch.stack([window for window, _ in chosen]), torch.stack([label for _, label in chosen])


def predict(network: Enformer, one_hot: Tensor, head: str, training: bool = True) -> Tensor:
    """Differentiable predictions (B, bins, tracks) of one-hot sequences (B, L, 4; A C G T).

    In training, batch normalisation uses the statistics of the batch and updates the stored ones; otherwise it uses
    the stored ones, as `Enformer` does.
    """
    x: Tensor = _downsampled(network.stem, network.stem.conv(one_hot.transpose(1, 2)), training)
    for block in network.tower:
        block = cast(DownsampleBlock, block)
        x = _downsampled(block, _convolved(cast(ConvBlock, block.conv), x, training), training)
    tokens = x.transpose(1, 2)
    for layer in network.transformer:
        tokens = layer(tokens)
    crop = network.config.crop
    cropped = tokens[:, crop : tokens.shape[1] - crop].transpose(1, 2)
    embedding = _gelu(_convolved(network.pointwise, cropped, training)).transpose(1, 2)
    return network.predict(embedding, head)


def _downsampled(block: DownsampleBlock, convolved: Tensor, training: bool) -> Tensor:
    return _pooled(block.pool, convolved + _convolved(block.residual, convolved, training))


def _convolved(block: ConvBlock, x: Tensor, training: bool) -> Tensor:
    convolved: Tensor = block.conv(_gelu(_normalised(block.norm, x, training)))
    return convolved


def _normalised(norm: BatchNorm, x: Tensor, training: bool) -> Tensor:
    return F.batch_norm(
        x, norm.running_mean, norm.running_var, norm.weight, norm.bias, training, momentum=MOMENTUM, eps=EPSILON
    )


def _gelu(x: Tensor) -> Tensor:
    return F.silu(GELU_FACTOR * x) / GELU_FACTOR


def _pooled(pool: SoftmaxPool, x: Tensor) -> Tensor:
    # A softmax over two is a sigmoid of the difference, and the logits have no bias: three times as fast.
    first, second = x[..., 0::2], x[..., 1::2]
    difference = first - second
    return second + F.conv1d(difference, pool.logits.weight[..., 0]).sigmoid() * difference


def main(
    output: Annotated[Path, typer.Option(help="safetensors file to write")],
    steps: Annotated[int, typer.Option(min=1, help="batches")] = 3000,
    seed: Annotated[int, typer.Option(min=0, help="of everything random")] = 1,
) -> None:
    """Train the demo's network on one thread and write its weights."""
    torch.set_num_threads(1)  # the bits of the weights depend on it, and more threads would gain little
    losses: list[float] = []

    def report(step: int, loss: float, _: Enformer) -> None:
        losses.append(loss)
        if step % 100 == 0 or step == steps:
            print(f"step {step:,} of {steps:,}: loss {np.mean(losses[-100:]):.4f}", flush=True)

    network = train(steps, seed, report)
    save_weights(network, output)
    print(f"Wrote {output} ({output.stat().st_size / 1e6:.1f} MB), digest {network.digest}")


if __name__ == "__main__":
    typer.run(main)
