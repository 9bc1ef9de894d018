from pathlib import Path

import pytest
import torch

from dino_diffusion.models import DinoEncoder
from dino_diffusion.training.distillation import Distilled, dino_loss, koleo_loss, layer_groups, sinkhorn


@pytest.fixture
def module(backbone: Path) -> Distilled:
    torch.manual_seed(0)
    return Distilled(DinoEncoder.from_backbone(backbone, None, 28, 16, 8), prototypes=12)


def test_sinkhorn_gives_every_row_one_and_every_prototype_its_share() -> None:
    scores = torch.randn(64, 8, generator=torch.Generator().manual_seed(0)) * 0.1
    plan = sinkhorn(scores, rounds=50)
    torch.testing.assert_close(plan.sum(1), torch.ones(64))
    torch.testing.assert_close(plan.sum(0), torch.full((8,), 8.0), rtol=1e-3, atol=1e-3)


def test_dino_loss_is_lower_where_the_student_agrees() -> None:
    teacher = torch.eye(6).expand(2, 6, 6)
    agreeing, opposed = torch.cat([teacher, teacher]), torch.cat([-teacher, -teacher])
    assert dino_loss(agreeing, teacher) < 0.1 < dino_loss(opposed, teacher)


def test_a_crop_is_not_compared_with_itself() -> None:
    teacher = torch.stack([torch.eye(6), torch.eye(6)])
    only_itself = torch.stack([torch.eye(6), torch.eye(6).flip(1)])
    swapped = only_itself.flip(0)
    assert dino_loss(only_itself, teacher) == pytest.approx(float(dino_loss(swapped, teacher)), rel=1e-5)


def test_koleo_rewards_spread() -> None:
    spread = torch.eye(5)
    crowd = torch.ones(5, 5) + 0.01 * torch.eye(5)
    assert koleo_loss(spread) < koleo_loss(crowd)
    assert koleo_loss(spread[:1]) == 0


def test_learning_rates_fall_by_layer(module: Distilled) -> None:
    groups = layer_groups(module, 1.0, 0.5)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    named = {name: rates.get(id(p)) for name, p in module.named_parameters()}
    assert named["student_head.prototypes"] == 1.0
    assert named["student.backbone.embeddings.cls_token"] == 0.5**4
    assert [named[f"student.backbone.encoder.layer.{i}.norm1.weight"] for i in range(3)] == [0.125, 0.25, 0.5]
    assert not any(named[name] for name in named if name.startswith("teacher") or "mask_token" in name)
    assert sum(p.numel() for group in groups for p in group["params"]) == sum(
        p.numel() for p in module.parameters() if p.requires_grad
    )


def test_every_trained_weight_gets_a_gradient_and_the_teacher_none(module: Distilled) -> None:
    scores, cls, teacher = module(torch.rand(3, 2, 1, 28, 28), torch.rand(3, 2, 1, 14, 14))
    assert scores.shape == (4, 3, 12) and cls.shape == (2, 3, 32) and teacher.shape == (2, 3, 12)
    (dino_loss(scores, teacher) + koleo_loss(cls[0])).backward()
    for parameter in module.parameters():
        assert (parameter.grad is not None) == parameter.requires_grad


def test_the_teacher_follows_the_student(module: Distilled) -> None:
    with torch.no_grad():
        module.student.backbone.embeddings.cls_token.add_(1.0)
    before = module.teacher.backbone.embeddings.cls_token.clone()
    module.move_teacher(0.9)
    torch.testing.assert_close(module.teacher.backbone.embeddings.cls_token, before + 0.1)


def test_student_and_teacher_can_do_without_local_crops(module: Distilled) -> None:
    scores, _, _ = module(torch.rand(2, 2, 1, 28, 28), torch.rand(2, 0, 1, 14, 14))
    assert scores.shape == (2, 2, 12)
