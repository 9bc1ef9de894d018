"""Capture of attention maps and features while a diffusers model runs.

    with capture_attention(unet, kind="self", layers=[16, "up_blocks.1"]) as maps:
        unet(latents, t, tokens)
    maps[0].weights            # (batch, 1, query, key), rows sum to 1

A capture reads along in hooks: each layer's own processor computes its output (fused SDPA where it was), so
outputs are bit-identical to those without capture. What it adds is the maps, for the price of one more
query-key product in the chosen layers. Captures nest; on exit, also after an exception, hooks are what they
were. A capture sees the calls of the thread that opened it and of no other, so that several threads may
share a model, and works on the uncompiled module.

Memory: stored maps take batch * (1 | heads) * query * key * bytes of `dtype` each, a 32x32 layer with
averaged heads 4 MiB an image in float32. What is stored never exceeds `max_bytes`: the map that would is
refused with AttentionMemoryError before it is computed. While a map is made, up to three times as
much as a float32 head takes (batch * query * key * 4 bytes), or 4 MiB if that is more, is held besides.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, overload

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from torch import Tensor, nn

from dino_diffusion.errors import ConfigurationError, DinoDiffusionError

Kind = Literal["self", "cross"]
Resolution = tuple[int, int]

Layers = Collection[str | int | Resolution] | Callable[[str, Resolution], bool]
"""Which layers: names (`up_blocks.1` means all within), resolutions (`16` or `(16, 16)`) of the queries,
or a predicate of name and resolution."""

DEFAULT_MAX_BYTES = 512 * 2**20

AT_ONCE = 2**20
"""Numbers of attention that are computed at once where that is more than a head's."""


class AttentionMemoryError(DinoDiffusionError):
    """Captured maps or features would take more memory than the caller allowed."""


@dataclass(frozen=True, eq=False)
class AttentionMap:
    """The attention of one layer in one call of the model."""

    layer: str
    """Dotted name, for example `up_blocks.1.attentions.0.transformer_blocks.0.attn1`."""
    kind: Kind
    resolution: Resolution
    """(h, w) of the queries; query i lies at row i // w, column i % w."""
    weights: Tensor
    """(batch, heads | 1, query, key), non-negative, rows sum to 1 (to the precision of the dtype)."""
    call: int
    """Which call of the model since the capture began, from 0."""
    timesteps: tuple[float, ...]
    """What the model got as timestep, one an image; empty when it got none."""


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """The output of one submodule in one call of the model."""

    name: str
    resolution: Resolution
    values: Tensor
    """(batch, channels, h, w); token outputs (batch, h * w, channels) are brought to this shape."""
    call: int
    timesteps: tuple[float, ...]


Record = TypeVar("Record", AttentionMap, FeatureMap)


class Captured(Sequence[Record], Generic[Record]):
    """What was captured so far, in the order of computation; stays after the context is left."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.used_bytes = 0
        self._records: list[Record] = []

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        return self._records[index]

    def __len__(self) -> int:
        return len(self._records)

    def clear(self) -> None:
        """Forget everything captured so far: room for the next calls."""
        self._records.clear()
        self.used_bytes = 0

    def reserve(self, what: str, nbytes: int) -> None:
        """Account for `nbytes` more; raises AttentionMemoryError when that is over the limit."""
        if self.used_bytes + nbytes > self.max_bytes:
            raise AttentionMemoryError(
                f"Capturing {what} needs {_mib(self.used_bytes + nbytes)}, more than the limit of "
                f"{_mib(self.max_bytes)}: choose fewer layers or timesteps, store float16 or raise max_bytes."
            )
        self.used_bytes += nbytes

    def append(self, record: Record) -> None:
        self._records.append(record)


@contextmanager
def capture_attention(
    unet: nn.Module,
    *,
    kind: Literal["self", "cross", "both"] = "both",
    layers: Layers | None = None,
    timesteps: tuple[float, float] | None = None,
    average_heads: bool = True,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = "cpu",
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> Iterator[Captured[AttentionMap]]:
    """Record the attention maps of `unet` (a UNet2DConditionModel, called as `unet(sample, timestep, ...)`).

    `layers=None` means all; `timesteps` keeps calls where any image's timestep lies in the closed interval,
    in the model's own units. Layers not asked for run as if there were no capture. Maps are detached and
    stored as `dtype` on `device` (None: where they were computed, which spares a GPU the transfer).

    Raises ConfigurationError for an unknown layer name and for an attention processor whose maps it cannot
    tell; AttentionMemoryError out of the model's call once the maps would exceed `max_bytes`.
    """
    attentions = {name: module for name, module in unet.named_modules() if isinstance(module, Attention)}
    chosen = _layer_filter(layers, list(attentions))
    maps: Captured[AttentionMap] = Captured(max_bytes)
    with ExitStack() as undo:
        calls = undo.enter_context(_watch_calls(unet))

        def record(
            layer: str, attn: Attention, hidden: Tensor, context: Tensor | None, mask: Tensor | None
        ) -> None:
            found: Kind = "self" if context is None else "cross"
            call = calls.current(layer)
            if kind not in ("both", found) or not call.within(timesteps):
                return
            batch = hidden.shape[0]
            queries = hidden.shape[-2:].numel() if hidden.ndim == 4 else hidden.shape[1]
            resolution = token_grid(queries, call.size)
            if not chosen(layer, resolution):
                return
            keys = queries if context is None else context.shape[1]
            heads = 1 if average_heads else attn.heads
            maps.reserve(f"the attention of {layer}", batch * heads * queries * keys * dtype.itemsize)
            weights = _attention_weights(attn, hidden, context, mask, average_heads, dtype)
            weights = weights.to(device or weights.device)
            maps.append(AttentionMap(layer, found, resolution, weights, call.index, call.per_image(batch)))

        for name, attn in attentions.items():
            undo.callback(_before_attention(name, attn, calls, record))
        yield maps


@contextmanager
def capture_features(
    module: nn.Module,
    names: Collection[str],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = "cpu",
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> Iterator[Captured[FeatureMap]]:
    """Record the outputs of the named submodules of `module`, such as `mid_block` or `up_blocks.1`.

    Of an output with several parts (down blocks, transformers) the first is taken: the hidden states. They
    are detached copies, stored as `dtype` on `device` (None: where they were computed).

    Raises ConfigurationError for an unknown name and for an output that is no picture; AttentionMemoryError
    out of the model's call once the features would exceed `max_bytes`.
    """
    submodules = dict(module.named_modules())
    for name in names:
        if not name or name not in submodules:
            raise ConfigurationError(
                f"The model has no submodule {name!r}: use a name from named_modules(), such as "
                f"{', '.join(child for child, _ in module.named_children())}."
            )
    features: Captured[FeatureMap] = Captured(max_bytes)
    with ExitStack() as undo:
        calls = undo.enter_context(_watch_calls(module))

        def hook_for(name: str) -> Callable[[nn.Module, Any, Any], None]:
            def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
                if not calls.here:
                    return
                call = calls.current(name)
                values = output if isinstance(output, Tensor) else output[0]
                if not isinstance(values, Tensor) or values.ndim not in (3, 4):
                    raise ConfigurationError(
                        f"The output of {name} is neither (batch, channels, h, w) nor (batch, tokens, "
                        "channels): choose another submodule."
                    )
                features.reserve(f"the features of {name}", values.numel() * dtype.itemsize)
                if values.ndim == 3:
                    values = values.mT.unflatten(-1, token_grid(values.shape[1], call.size))
                stored = values.detach().to(device or values.device, dtype, copy=True).contiguous()
                height, width = stored.shape[-2:]
                features.append(
                    FeatureMap(name, (height, width), stored, call.index, call.per_image(len(stored)))
                )

            return hook

        for name in names:
            undo.callback(submodules[name].register_forward_hook(hook_for(name)).remove)
        yield features


def token_grid(tokens: int, size: Resolution) -> Resolution:
    """(h, w) of `tokens` image tokens inside a U-Net that halves, rounding up, a sample of `size` (H, W).

    Raises ConfigurationError when no number of halvings gives that many.
    """
    height, width = size
    while height * width > max(tokens, 1):
        height, width = (height + 1) // 2, (width + 1) // 2
    if height * width != tokens:
        raise ConfigurationError(
            f"{tokens} tokens are no halving of a {size[0]}x{size[1]} sample: choose layers on its grid."
        )
    return height, width


# --- the call under way ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Call:
    """One call `model(sample, timestep, ...)`."""

    index: int
    size: Resolution
    timesteps: tuple[float, ...]

    def within(self, interval: tuple[float, float] | None) -> bool:
        return interval is None or any(interval[0] <= t <= interval[1] for t in self.timesteps)

    def per_image(self, batch: int) -> tuple[float, ...]:
        """A single timestep stands for all images."""
        return self.timesteps * batch if len(self.timesteps) == 1 else self.timesteps


class _Calls:
    """Knows which call of the model is under way in the thread that made this."""

    def __init__(self) -> None:
        self._count = 0
        self._now: _Call | None = None
        self._thread = threading.get_ident()

    @property
    def here(self) -> bool:
        """Whether it is that thread that asks."""
        return threading.get_ident() == self._thread

    def begin(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> None:
        """Forward pre-hook. Torch leaves the keywords out where a hook is removed while another thread is
        about to call it."""
        if not self.here or kwargs is None:
            return
        sample = args[0] if args else next(iter(kwargs.values()))
        timestep = args[1] if len(args) > 1 else kwargs.get("timestep")
        known = timestep is not None and (isinstance(timestep, int | float | Tensor))
        levels = torch.as_tensor(timestep).detach().reshape(-1).tolist() if known else []
        height, width = sample.shape[-2:]
        self._now = _Call(self._count, (height, width), tuple(float(level) for level in levels))
        self._count += 1

    def end(self, *_: Any) -> None:
        """Forward hook, called after an exception as well."""
        if self.here:
            self._now = None

    def current(self, layer: str) -> _Call:
        if self._now is None:
            raise ConfigurationError(
                f"{layer} ran outside a call of the captured model: capture the module that is called."
            )
        return self._now


@contextmanager
def _watch_calls(model: nn.Module) -> Iterator[_Calls]:
    calls = _Calls()
    before = model.register_forward_pre_hook(calls.begin, with_kwargs=True)
    after = model.register_forward_hook(calls.end, always_call=True)
    try:
        yield calls
    finally:
        before.remove()
        after.remove()


# --- the attention layer ---------------------------------------------------------------------------

_Recorder = Callable[[str, Attention, Tensor, Tensor | None, Tensor | None], None]


def _before_attention(name: str, attn: Attention, calls: _Calls, record: _Recorder) -> Callable[[], None]:
    """Hand what the layer gets to a recorder; returns what undoes it."""
    kind = type(attn.processor)
    if kind not in (AttnProcessor, AttnProcessor2_0) or attn.spatial_norm is not None:
        raise ConfigurationError(
            f"The attention of {name} runs through {kind.__name__}, which cannot be captured: call "
            "set_default_attn_processor() on the model first."
        )

    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> None:
        if not calls.here:
            return
        given = dict(zip(("hidden_states", "encoder_hidden_states", "attention_mask"), args, strict=False))
        given |= kwargs or {}
        record(
            name,
            attn,
            given["hidden_states"],
            given.get("encoder_hidden_states"),
            given.get("attention_mask"),
        )

    return attn.register_forward_pre_hook(hook, with_kwargs=True).remove


@torch.no_grad()
def _attention_weights(
    attn: Attention,
    hidden: Tensor,
    context: Tensor | None,
    mask: Tensor | None,
    average_heads: bool,
    dtype: torch.dtype,
) -> Tensor:
    """softmax(q k^T / sqrt(d) + mask), `(batch, heads | 1, query, key)` in `dtype`.

    The projections are those of diffusers' AttnProcessor; few heads at a time bound the memory, float32
    keeps rows that sum to 1 in half precision models.
    """
    if hidden.ndim == 4:
        hidden = hidden.flatten(2).mT
    if attn.group_norm is not None:
        hidden = attn.group_norm(hidden.mT).mT
    if context is None:
        context = hidden
    elif attn.norm_cross is not None:
        context = attn.norm_encoder_hidden_states(context)
    query = attn.to_q(hidden).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
    key = attn.to_k(context).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
    if attn.norm_q is not None:
        query = attn.norm_q(query)
    if attn.norm_k is not None:
        key = attn.norm_k(key)
    if mask is not None:
        mask = attn.prepare_attention_mask(mask, key.shape[2], len(key))
        mask = mask.unflatten(0, (-1, attn.heads))
    shape = (len(query), 1 if average_heads else attn.heads, query.shape[2], key.shape[2])
    maps = torch.zeros(shape, dtype=torch.float32 if average_heads else dtype, device=query.device)
    together = max(1, AT_ONCE // (len(query) * query.shape[2] * key.shape[2]))
    for first in range(0, attn.heads, together):
        heads = slice(first, first + together)
        weights = (query[:, heads].float() * attn.scale) @ key[:, heads].float().mT
        if mask is not None:
            weights += mask[:, heads].float()
        weights = weights.softmax(dim=-1)
        if average_heads:
            for head in weights.unbind(1):
                maps[:, 0].add_(head, alpha=1 / attn.heads)
        else:
            maps[:, heads] = weights
    return maps.to(dtype)


# --- which layers ----------------------------------------------------------------------------------


def _layer_filter(layers: Layers | None, known: list[str]) -> Callable[[str, Resolution], bool]:
    """The predicate that `layers` stands for; raises ConfigurationError for names that match nothing."""
    if layers is None:
        return lambda layer, resolution: True
    if callable(layers):
        return layers
    if isinstance(layers, str):
        layers = [layers]
    names = [layer for layer in layers if isinstance(layer, str)]
    sizes = [layer for layer in layers if not isinstance(layer, str)]
    resolutions = {(size, size) if isinstance(size, int) else tuple(size) for size in sizes}
    for name in names:
        if not any(_lies_in(layer, name) for layer in known):
            raise ConfigurationError(
                f"The model has no attention layer {name!r}: choose among {', '.join(known)} or their blocks."
            )
    return lambda layer, resolution: resolution in resolutions or any(_lies_in(layer, name) for name in names)


def _lies_in(layer: str, name: str) -> bool:
    return layer == name or layer.startswith(name + ".")


def _mib(nbytes: int) -> str:
    return f"{nbytes / 2**20:.1f} MiB"
