"""Which tasks the app offers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask

from monailabel_app.lib.activelearning.coverage import Coverage
from monailabel_app.lib.activelearning.first import First
from monailabel_app.lib.activelearning.random import Random
from monailabel_app.lib.activelearning.uncertainty import Uncertainty
from monailabel_app.lib.concepts import Concepts
from monailabel_app.lib.embeddings import Embeddings, task_name
from monailabel_app.lib.engine import Engine
from monailabel_app.lib.infers.inpaint import Inpaint
from monailabel_app.lib.infers.learnt import LearntSegmentTask
from monailabel_app.lib.infers.lungs import Lungs
from monailabel_app.lib.infers.regions import RegionsTask
from monailabel_app.lib.infers.strip import StripTask
from monailabel_app.lib.infers.twin import Twin
from monailabel_app.lib.infers.variant import Variant
from monailabel_app.lib.scores import Scores
from monailabel_app.lib.trainers.learn_segment import LearnSegment
from monailabel_app.lib.worklist import Worklist


@dataclass(frozen=True)
class Parts:
    """What tasks are made of."""

    engine: Engine
    embeddings: Embeddings
    concepts: Concepts
    worklist: Worklist
    scores: Scores
    datastore: Callable[[], Datastore]


def infers(parts: Parts) -> dict[str, InferTask]:
    """The infer tasks that are always there."""
    return {
        "lungs": Lungs(parts.engine, parts.embeddings),
        "regions": RegionsTask(parts.engine),
        "inpaint": Inpaint(parts.engine, parts.concepts, parts.datastore),
        "variant": Variant(parts.engine),
        "twin": Twin(parts.engine, parts.concepts, parts.datastore),
        "strip": StripTask(parts.engine, parts.concepts),
    }


def learnt_infers(parts: Parts) -> dict[str, InferTask]:
    """Those of learnt segments, one a segment."""
    return {
        task_name(learnt): LearntSegmentTask(parts.engine, parts.embeddings, learnt)
        for learnt in parts.embeddings.all().values()
        if learnt.active
    }


def trainers(parts: Parts) -> dict[str, TrainTask]:
    """The train tasks."""
    return {"learn_segment": LearnSegment(parts.engine, parts.embeddings)}


def strategies(parts: Parts) -> dict[str, Strategy]:
    """The active learning strategies; the first is what a stock client proposes."""
    return {
        "uncertainty": Uncertainty(parts.worklist, parts.scores),
        "coverage": Coverage(parts.worklist, parts.scores),
        "random": Random(parts.worklist, parts.scores),
        "first": First(parts.worklist, parts.scores),
    }
