import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dino_diffusion.errors import ConfigurationError
from dino_diffusion.training.checkpoint import CHECKPOINT, load_checkpoint
from dino_diffusion.training.ema import Ema
from dino_diffusion.training.loop import Step, schedule, train
from dino_diffusion.training.settings import RunSettings

from .toy import ToyPart

RUN = RunSettings(steps=12, warmup=3, lr=1e-2, checkpoint_every=4, validate_every=5, picture_every=6)


def run_toy(folder: Path, part: ToyPart | None = None, **changes: object) -> ToyPart:
    part = part or ToyPart()
    run = replace(RUN, folder=str(folder), **changes)
    train(part, run, run, quiet=True)
    return part


class Stopped(Exception):
    """Stands for a kill."""


class StoppingPart(ToyPart):
    def after_step(self, module: torch.nn.Module, progress: float) -> None:
        if len(self.losses_seen) == 6:
            raise Stopped


def test_a_resumed_run_repeats_the_uninterrupted_one(tmp_path: Path) -> None:
    whole = run_toy(tmp_path / "whole")
    first = StoppingPart()
    with pytest.raises(Stopped):
        run_toy(tmp_path / "cut", first)
    second = run_toy(tmp_path / "cut")
    assert first.losses_seen == whole.losses_seen[:6]
    assert second.losses_seen == whole.losses_seen[4:]  # from the checkpoint after step 4
    for name, value in whole.module.state_dict().items():
        assert torch.equal(second.module.state_dict()[name], value)
    final = [torch.load(tmp_path / name / CHECKPOINT, weights_only=True)["ema"] for name in ("whole", "cut")]
    assert all(torch.equal(final[0][name], final[1][name]) for name in final[0])


def test_a_finished_run_stays_finished(tmp_path: Path) -> None:
    run_toy(tmp_path)
    assert run_toy(tmp_path).losses_seen == []


def test_the_run_folder_tells_what_happened(tmp_path: Path) -> None:
    run_toy(tmp_path)
    about = json.loads((tmp_path / "run.json").read_text())
    assert about["settings"]["seed"] == 0 and about["git"] and "threads" in about["device"]
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "weight" in line] == [5, 10, 12]
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["0000006.png", "0000012.png"]


@pytest.mark.parametrize("kept", [0, 0.5, 0.98])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, kept: float) -> None:
    run_toy(tmp_path)
    path = tmp_path / CHECKPOINT
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ConfigurationError, match=r"checkpoint\.pt: the checkpoint is damaged.*delete it"):
        run_toy(tmp_path)


def test_a_checkpoint_that_holds_code_is_refused(tmp_path: Path) -> None:
    torch.save({"module": print}, tmp_path / CHECKPOINT)
    with pytest.raises(ConfigurationError, match="damaged"):
        load_checkpoint(tmp_path, torch.device("cpu"))


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    run_toy(tmp_path)
    with pytest.raises(ConfigurationError, match="other settings"):
        run_toy(tmp_path, ToyPart(width=5))


def test_a_loss_that_is_no_number_stops_the_run_before_its_checkpoint(tmp_path: Path) -> None:
    class Diverging(ToyPart):
        def losses(self, module, batch, progress):  # type: ignore[no-untyped-def]
            losses = super().losses(module, batch, progress)
            return {"loss": losses["loss"] * (float("nan") if len(self.losses_seen) == 8 else 1.0)}

    with pytest.raises(ConfigurationError, match=r"nan at step 8.*lower run\.lr"):
        run_toy(tmp_path, Diverging())
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["step"] == 4


def test_out_of_memory_halves_the_batch_and_keeps_its_gradient(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole, pieces = ToyPart(), ToyPart(out_of_memory_above=2)
    for part in (whole, pieces):
        part.module[1] = torch.nn.Identity()  # dropout draws anew in each piece
    with caplog.at_level(logging.WARNING):
        run_toy(tmp_path / "whole", whole)
        run_toy(tmp_path / "pieces", pieces)
    assert pieces.sizes_seen[:6] == [8, 4, 2, 2, 2, 2] and set(pieces.sizes_seen[6:]) == {2}
    assert [record.message for record in caplog.records] == [
        "out of memory: a batch of 8 is now trained in 2 pieces",
        "out of memory: a batch of 8 is now trained in 4 pieces",
    ]
    for name, value in whole.module.state_dict().items():
        torch.testing.assert_close(pieces.module.state_dict()[name], value, rtol=1e-3, atol=1e-4)


def test_out_of_memory_with_a_single_picture_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"lower run\.batch"):
        run_toy(tmp_path, ToyPart(out_of_memory_above=0))


def test_minutes_end_a_run(tmp_path: Path) -> None:
    assert len(run_toy(tmp_path, minutes=1e-9).losses_seen) == 0


def test_no_steps_only_saves(tmp_path: Path) -> None:
    assert run_toy(tmp_path, steps=0).losses_seen == []
    assert (tmp_path / "weights").is_dir()


def test_schedule_warms_up_and_falls_to_zero() -> None:
    assert [round(schedule(step, 0, 4), 3) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert schedule(100, 0.5, 4) == pytest.approx(0.5) and schedule(100, 1.0, 4) == pytest.approx(0)
    assert schedule(100, 1.2, 4) == pytest.approx(0)


def test_average_moves_by_its_decay_and_warms_up() -> None:
    module = torch.nn.BatchNorm1d(2)
    ema = Ema(module, decay=0.5)
    with torch.no_grad():
        module.weight.fill_(3.0)
    module.num_batches_tracked.fill_(7)
    ema.update(module, step=1000)
    assert (
        torch.allclose(ema.shadow["weight"], torch.full((2,), 2.0)) and ema.shadow["num_batches_tracked"] == 7
    )
    early = Ema(torch.nn.Linear(1, 1), decay=0.999)
    other = torch.nn.Linear(1, 1)
    start = early.shadow["weight"].clone()
    early.update(other, step=0)
    assert torch.allclose(early.shadow["weight"], 0.1 * start + 0.9 * other.weight)
    early.copy_to(other)
    assert torch.equal(other.weight, early.shadow["weight"])


def test_random_seeds_belong_to_seed_step_and_process() -> None:
    def seed(run: int, number: int, rank: int, *more: int) -> int:
        return Step(number, 0.0, rank, 2, torch.device("cpu"), run).random_seed(*more)

    assert seed(1, 2, 0) == seed(1, 2, 0)
    assert len({seed(1, 2, 0), seed(2, 2, 0), seed(1, 3, 0), seed(1, 2, 1), seed(1, 2, 0, 1)}) == 5


def test_the_network_is_compiled_where_the_recipe_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[torch.nn.Module] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, **options: compiled.append(module))
    run_toy(tmp_path / "plain")
    assert not compiled
    part = run_toy(tmp_path / "compiled", compile=True)
    assert compiled == [part.module]
