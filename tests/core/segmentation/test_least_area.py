"""What is seen weakly is found in its example's size; what is not there is not found."""

from __future__ import annotations

import torch

from dino_diffusion.segmentation.chest_frame import ChestFrame
from dino_diffusion.segmentation.least_area import LOWEST, believe, least_area


def of(*labels: torch.Tensor) -> torch.Tensor:
    """Probabilities `(1, labels + 1, h, w)`, the background's first."""
    maps = torch.stack(labels)
    return torch.cat([1 - maps.sum(0, keepdim=True), maps])[None]


def ramp(highest: float) -> torch.Tensor:
    """100 cells, each less probable than the one before."""
    return torch.linspace(highest, 0.001, 100).reshape(10, 10)


def found(probabilities: torch.Tensor) -> list[int]:
    return (probabilities[0, 1:] > 0.5).sum((1, 2)).tolist()


def test_a_weak_structure_reaches_its_least_area() -> None:
    weak = of(ramp(0.45))
    assert found(weak) == [0]
    raised = believe(weak, torch.tensor([[30.0]]))
    assert found(raised)[0] in (29, 30)
    assert torch.allclose(raised.sum(1), torch.ones(1, 10, 10))
    order = raised[0, 1].flatten()
    assert (order[:-1] >= order[1:]).all(), "the likeliest cells come first"


def test_what_is_not_there_is_not_found() -> None:
    absent = of(ramp(LOWEST - 0.01))
    assert found(believe(absent, torch.tensor([[30.0]]))) == [0]


def test_a_label_that_has_its_area_or_wants_none_stays() -> None:
    both = of(ramp(0.9) / 2, ramp(0.9).flip(0) / 2)
    assert torch.allclose(believe(both, torch.zeros(1, 2)), both, atol=1e-5)
    strong = of(ramp(0.9))
    assert torch.allclose(believe(strong, torch.tensor([[20.0]])), strong, atol=1e-5)


def test_labels_that_are_raised_stay_probabilities() -> None:
    crowded = of(torch.full((10, 10), 0.4), torch.full((10, 10), 0.4))
    raised = believe(crowded, torch.tensor([[90.0, 90.0]]))
    assert torch.allclose(raised.sum(1), torch.ones(1, 10, 10)) and (raised >= 0).all()


def test_the_least_of_several_examples_that_have_the_label_counts() -> None:
    one, two = of(ramp(0.9)), of(ramp(0.4))
    least = least_area(torch.cat([one, two]), torch.tensor([10.0, 10.0]))
    torch.testing.assert_close(least, two[:, 1:].sum((2, 3))[0] / 10)
    without = of(torch.zeros(10, 10))
    assert torch.equal(least_area(torch.cat([one, without]), torch.ones(2)), least_area(one, torch.ones(1)))
    assert least_area(without, torch.ones(1)).tolist() == [0]


def test_area_is_counted_in_units_of_the_chest() -> None:
    """Lungs half as wide and high make a unit of a quarter of the cells."""

    def lungs(scale: int) -> torch.Tensor:
        maps = torch.zeros(1, 2, 64, 64)
        for lung, middle in enumerate((32 - 6 * scale, 32 + 6 * scale)):
            maps[:, lung, 32 - 8 * scale : 32 + 8 * scale, middle - 3 * scale : middle + 3 * scale] = 1
        return maps

    large, small = (float(ChestFrame.of(lungs(scale)).area) for scale in (3, 2))
    assert 0.85 < (large / small) / (3 / 2) ** 2 < 1.15
