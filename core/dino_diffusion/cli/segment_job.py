"""Files through the models: some at once, while the next are read and those before are written."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from dino_diffusion.cli.segment_desk import Desk, File, Found, Shown, told
from dino_diffusion.cli.segment_lanes import Lanes, Processes, Threads
from dino_diffusion.errors import DinoDiffusionError
from dino_diffusion.models import ModelBundle
from dino_diffusion.segmentation import lungs, observation
from dino_diffusion.segmentation.learnt import LearntSegmentation, segment_with
from dino_diffusion.view import ModelView

if TYPE_CHECKING:
    from dino_diffusion.radiograph import Radiograph
    from dino_diffusion.segmentation.embedding import SegmentEmbedding

MANY = 100
"""Starting processes takes as long as a thread takes to read, outline and write so many files."""

Finder = Callable[[list[File], list[ModelView]], list[Found]]
Entry = dict[str, Any]
Outcome = Entry | DinoDiffusionError
Begun = Future[Entry] | DinoDiffusionError


@dataclass(frozen=True)
class Job:
    """`find`: what the models make of files that were read in `lanes`, `at_once` of them together."""

    lanes: Lanes
    find: Finder
    at_once: int = 1

    def labelled(self, files: list[File]) -> Iterator[tuple[File, Outcome]]:
        """Every file with its entry for the JSON document, or a sentence about what went wrong with it."""
        chunks = [files[start : start + self.at_once] for start in range(0, len(files), self.at_once)]
        ahead = self._read(chunks[0]) if chunks else []
        before: list[tuple[File, Begun]] = []
        for number, chunk in enumerate(chunks):
            read = [_done(file, future) for file, future in ahead]
            ahead = self._read(chunks[number + 1]) if number + 1 < len(chunks) else []
            begun = self._begin(chunk, read)
            yield from ((file, _done(file, one)) for file, one in before)
            before = list(zip(chunk, begun, strict=True))
        yield from ((file, _done(file, one)) for file, one in before)

    def _read(self, files: list[File]) -> list[tuple[File, Future[Shown]]]:
        return [(file, self.lanes.submit(Desk.read, file)) for file in files]

    def _begin(self, files: list[File], read: list[Shown | DinoDiffusionError]) -> list[Begun]:
        """Through the models; the rest of the work goes on in the lanes."""
        start = time.perf_counter()
        good = {
            file: _view(shown)
            for file, shown in zip(files, read, strict=True)
            if not isinstance(shown, DinoDiffusionError)
        }
        found: dict[File, Found] = {}
        try:
            with told(files[0].path):
                if good:
                    found = dict(zip(good, self.find(list(good), list(good.values())), strict=True))
        except DinoDiffusionError as error:
            if len(files) == 1:
                self.lanes.submit(Desk.forget, files[0])
                return [error]
            # One odd file must not take the others along.
            return [self._begin([file], [shown])[0] for file, shown in zip(files, read, strict=True)]
        seconds = (time.perf_counter() - start) / max(1, len(good))
        return [
            shown
            if isinstance(shown, DinoDiffusionError)
            else self.lanes.submit(Desk.finish, file, found[file], seconds)
            for file, shown in zip(files, read, strict=True)
        ]


@contextmanager
def started(
    bundle: ModelBundle,
    desk: Desk,
    at_once: int,
    count: int,
    embeddings: tuple[SegmentEmbedding, ...] = (),
) -> Iterator[Job]:
    """For `count` files: lungs, or with `embeddings` what was learnt. Many lungs are shared out among
    processes."""
    cores = min(at_once, os.cpu_count() or 1)
    shared = count >= MANY and cores > 1 and not embeddings
    with (Processes if shared else Threads)(desk, cores) as lanes:
        finder = learnt_finder(bundle, desk, embeddings) if embeddings else lung_finder(bundle, lanes)
        yield Job(lanes, finder, at_once)


def lung_finder(bundle: ModelBundle, lanes: Lanes) -> Finder:
    """Both lungs, label-free."""

    def find(files: list[File], views: list[ModelView]) -> list[Found]:
        def negative(number: int) -> ModelView:
            return _view(lanes.submit(Desk.negative, files[number]).result())

        return list(lungs.find_lungs(bundle, views, negative))

    return find


def learnt_finder(bundle: ModelBundle, desk: Desk, embeddings: tuple[SegmentEmbedding, ...]) -> Finder:
    """What was learnt; `desk`: of this process, for it looks at the radiographs themselves."""

    def find(files: list[File], views: list[ModelView]) -> list[Found]:
        pictures = [(desk.pictures[file][0], view) for file, view in zip(files, views, strict=True)]
        return [_Learnt(bundle, one, embeddings) for one in observation.observe_many(bundle, pictures)]

    return find


@dataclass(frozen=True)
class _Learnt:
    bundle: ModelBundle
    observation: observation.Observation
    embeddings: tuple[SegmentEmbedding, ...]
    negative: bool = False

    def outlined(self, radiograph: Radiograph, view: ModelView) -> LearntSegmentation:
        return segment_with(self.bundle, self.observation, self.embeddings)


def _view(shown: Shown) -> ModelView:
    pixels, square, scale = shown
    return ModelView(torch.from_numpy(pixels), square, scale)


def _done(file: File, begun: Future[Any] | DinoDiffusionError) -> Any:
    if isinstance(begun, DinoDiffusionError):
        return begun
    try:
        return begun.result()
    except DinoDiffusionError as error:
        return error
    except BrokenExecutor:
        return DinoDiffusionError(
            f"{file.path}: the process that worked on it was killed, perhaps for want of memory; "
            "label it again with --batch 1."
        )
