"""Counts what torch asks a device to do: launches, copies, and the moments at which the host waits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten

_NO_KERNEL = frozenset(
    (
        *("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "resize_", "set_", "lift_fresh"),
        *("_unsafe_view", "_reshape_alias", "as_strided_", "squeeze_", "unsqueeze_", "t_", "transpose_", "detach_"),
        *("device", "dim", "size", "stride", "numel", "is_pinned", "is_same_size"),
        *("sym_size", "sym_stride", "sym_numel", "sym_storage_offset"),
    )
)
"""Operations that only allocate or describe memory, besides those that the schema calls views."""

_WAITS = frozenset(
    (
        *("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select"),
        *("_unique2", "unique_dim", "unique_consecutive"),
    )
)
"""Operations whose result the host needs before it can go on: a value, or a shape that depends on values."""


@dataclass
class DeviceWork:
    """What was asked of a device.

    Attributes:
        launches: operations that compute or move something on the device, each counted once, whatever number of
            kernels it takes.
        to_device: copies from host memory.
        to_host: copies to host memory, values that the host reads among them.
        waits: operations that the host cannot go on before: copies of pageable memory, values that it reads, shapes
            that depend on values.
        operations: launches by name.
    """

    launches: int
    to_device: int
    to_host: int
    waits: int
    operations: Mapping[str, int]

    def per(self, items: int) -> dict[str, float]:
        """Counts of each of some items."""
        counts = {"launches": self.launches, "to_device": self.to_device, "to_host": self.to_host, "waits": self.waits}
        return {name: count / items for name, count in counts.items()}


class WorkCounter(TorchDispatchMode):
    """Counts the work of one device while it is active; it changes no result.

    On the meta device nothing has a value: there a copy to the host gives memory that holds anything, so that code
    whose course does not depend on values can be counted at any size.

    Args:
        device: type of the device, as in `torch.device.type`.
    """

    def __init__(self, device: str) -> None:
        super().__init__()
        self._device = device
        self._waits = self._to_device = self._to_host = 0
        self._operations: Counter[str] = Counter()

    @property
    def work(self) -> DeviceWork:
        """What has been counted so far."""
        launches = sum(self._operations.values())
        return DeviceWork(launches, self._to_device, self._to_host, self._waits, dict(self._operations))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """As torch calls it."""
        kwargs = kwargs or {}
        if self._device == "meta" and func is aten.scaled_dot_product_attention.default:
            return self._fused_attention(*args, **kwargs)
        # In inference mode operations that consist of others arrive whole.
        with self:
            result = func.decompose(*args, **kwargs)
        if result is not NotImplemented:
            return result
        name = func.overloadpacket.__name__
        source = _source(name, args)
        if source is not None:
            return self._copy(func, source, args, kwargs)
        if name in _WAITS and self._on_device(args):
            self._waits += 1
            if name == "_local_scalar_dense":
                self._to_host += 1
                return 0 if self._device == "meta" else func(*args, **kwargs)
        result = func(*args, **kwargs)
        if not func.is_view and name not in _NO_KERNEL and self._on_device((args, kwargs, result)):
            self._operations[name] += 1
        return result

    def _copy(self, func: Any, source: Tensor, args: Any, kwargs: Any) -> Any:
        target = args[0].device if func.overloadpacket is aten.copy_ else kwargs.get("device") or source.device
        target = torch.device(target).type
        if source.device.type == target:
            if target == self._device:
                self._operations[func.overloadpacket.__name__] += 1
            return func(*args, **kwargs)
        self._to_device += target == self._device
        self._to_host += source.device.type == self._device
        self._waits += not (kwargs.get("non_blocking") and _pinned(source, args))
        if source.device.type == "meta":
            return torch.zeros(source.shape, dtype=kwargs.get("dtype") or source.dtype, device=target)
        return func(*args, **kwargs)

    def _on_device(self, values: Any) -> bool:
        return any(isinstance(value, Tensor) and value.device.type == self._device for value in tree_leaves(values))

    def _fused_attention(self, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """What CUDA takes, where the meta device would take separate operations."""
        names = ("attn_mask", "dropout_p", "is_causal")
        given = dict(zip(names, args, strict=False)) | kwargs
        with self:
            output: Tensor = aten._scaled_dot_product_efficient_attention(
                query, key, value, given.get("attn_mask"), False, 0.0, False, scale=given.get("scale")
            )[0]
        return output


def _source(name: str, args: Any) -> Tensor | None:
    """What an operation that copies reads."""
    if name == "_to_copy":
        source = args[0]
    elif name == "copy_":
        source = args[1]
    else:
        return None
    return source if isinstance(source, Tensor) else None


def _pinned(source: Tensor, args: Any) -> bool:
    tensors: Iterator[Tensor] = (t for t in (source, args[0]) if t.device.type == "cpu")
    return all(tensor.is_pinned() for tensor in tensors)
