import numpy as np
import pytest

from dino_diffusion.training.stream import EpochStream


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_processes_together_see_each_item_once_an_epoch(processes: int) -> None:
    stream, size = EpochStream(["a"] * 17 + ["b"] * 13, seed=3), 5
    steps = 30 // size  # `processes` epochs
    seen = [stream.batch(step, size, rank, processes) for step in range(steps) for rank in range(processes)]
    for epoch in np.concatenate(seen).reshape(processes, 30):
        assert sorted(epoch) == list(range(30))


def test_processes_see_what_one_process_with_a_larger_batch_sees() -> None:
    stream = EpochStream(["a"] * 12, seed=0)
    two = np.concatenate([stream.batch(4, 3, rank, 2) for rank in (0, 1)])
    np.testing.assert_array_equal(two, stream.batch(4, 6))


def test_position_is_all_that_resuming_needs() -> None:
    late = EpochStream(["a"] * 7, seed=5)
    early = EpochStream(["a"] * 7, seed=5)
    before = [early.batch(step, 4) for step in range(9)]
    np.testing.assert_array_equal(late.batch(8, 4), before[8])


def test_epochs_and_seeds_differ() -> None:
    stream = EpochStream(["a"] * 50, seed=1)
    assert list(stream.epoch(0)) != list(stream.epoch(1))
    assert list(stream.epoch(0)) != list(EpochStream(["a"] * 50, seed=2).epoch(0))


def test_a_capped_source_goes_round_evenly() -> None:
    sources = ["large"] * 10 + ["small"] * 3
    stream = EpochStream(sources, seed=0, most=4)
    assert len(stream) == 7
    counts = np.bincount(np.concatenate([stream.epoch(number) for number in range(5)]), minlength=13)
    assert list(counts) == [2] * 10 + [5] * 3
