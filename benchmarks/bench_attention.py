"""One full-size attention layer against the machine's own float32 matrix-product rate, taken in turns."""

from __future__ import annotations

import argparse
from typing import cast

import torch
from common import random_model, seconds, spread

from enformer_ray.model.enformer import TransformerLayer
from enformer_ray.model.fast_attention import FastAttention
from enformer_ray.model.fast_transformer import attention_flops
from enformer_ray.model.geometry import EnformerConfig

SIDE = 1536


def main() -> None:
    """Print the rate of the layer as a share of the rate of matrix products."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=20)
    turns = parser.parse_args().turns
    config = EnformerConfig()
    published = cast(TransformerLayer, random_model().transformer[0]).attention
    tokens = torch.randn(1, config.tokens, config.channels)
    one, other, product = (torch.randn(SIDE, SIDE) for _ in range(3))
    flops, product_flops = attention_flops(config, 0, config.tokens), 2 * SIDE**3
    rates, against_published = [], []
    with torch.inference_mode():
        attention = FastAttention(published, config.tokens)
        for _ in range(turns + 1):
            before = seconds(lambda: [torch.mm(one, other, out=product) for _ in range(10)]) / 10
            layer = seconds(lambda: attention(tokens, 0, config.tokens))
            slow = seconds(lambda: published(tokens))
            after = seconds(lambda: [torch.mm(one, other, out=product) for _ in range(10)]) / 10
            rates.append((flops / layer) / (product_flops / ((before + after) / 2)))
            against_published.append(slow / layer)
    print(f"{flops / 1e9:.1f} GFLOP a layer, {torch.get_num_threads()} threads")
    print(f"published layer / this layer, time: {spread(against_published[1:])}")
    print(f"rate of the layer / rate of matrix products: {spread(rates[1:])}")


if __name__ == "__main__":
    main()
