"""Where to compute, and batches that shrink until they fit."""

from __future__ import annotations

import pytest
import torch

from dino_diffusion.device import choose_device, device_name, drawing, has_bf16, in_batches, inference
from dino_diffusion.errors import ConfigurationError


@pytest.mark.parametrize("name", ["gpu7", "cuda:99", "", "cpu:no"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="use one of cpu"):
        choose_device(name)


def test_the_cpu_is_always_there() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert "threads" in device_name(torch.device("cpu"))


@pytest.mark.parametrize("able", [True, False])
def test_pictures_are_drawn_in_bf16_by_a_cpu_that_computes_in_it(
    able: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": able})
    cpu, one = torch.device("cpu"), torch.ones(1, 1)
    assert has_bf16(cpu) == able and ("bf16" in device_name(cpu)) == able
    with drawing(cpu):
        assert (one @ one).dtype == (torch.bfloat16 if able else torch.float32)
    with inference(cpu):
        assert (one @ one).dtype == torch.float32


def test_a_batch_shrinks_until_it_fits_and_no_item_is_lost() -> None:
    tried: list[tuple[int, int]] = []

    def work(start: int, stop: int) -> list[int]:
        tried.append((start, stop))
        if stop - start > 2:
            raise torch.cuda.OutOfMemoryError("simulated")
        return list(range(start, stop))

    batches = in_batches(7, work, most=8)
    assert [item for batch in batches for item in batch] == list(range(7))
    assert tried == [(0, 7), (0, 4), (0, 2), (2, 4), (4, 6), (6, 7)]


def test_a_single_item_that_does_not_fit_is_said() -> None:
    def work(start: int, stop: int) -> None:
        raise torch.cuda.OutOfMemoryError("simulated")

    with pytest.raises(torch.cuda.OutOfMemoryError):
        in_batches(3, work, most=2)
