"""`dino-diffusion segment`: radiographs in, labelled lungs out."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dino_diffusion.cli import options
from dino_diffusion.cli.console import Output, complain, sentence
from dino_diffusion.cli.loading import load_bundle
from dino_diffusion.errors import ConfigurationError, DinoDiffusionError, RadiographError

if TYPE_CHECKING:
    from dino_diffusion.models import ModelBundle
    from dino_diffusion.radiograph import Labelmap, Radiograph, Source
    from dino_diffusion.segmentation.edge_cut import Cut
    from dino_diffusion.segmentation.embedding import SegmentEmbedding
    from dino_diffusion.segmentation.learnt import LearntSegmentation
    from dino_diffusion.segmentation.lungs import LungSegmentation
    from dino_diffusion.segmentation.observation import Observation
    from dino_diffusion.view import ModelView

OVERLAY_ENDING = "_overlay"

GPU_BATCH = 32

Outcome = dict[str, Any] | Exception
Begun = Exception | Future[Outcome]
Read = tuple["tuple[Radiograph, ModelView] | Exception", float]


def segment(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT", help="Radiographs, or folders that hold some.")
    ],
    output: options.OutputFolder,
    format: Annotated[
        options.LabelmapFormat | None,
        typer.Option(help="Format of the labelmaps.", show_default="png, for DICOM dcmseg"),
    ] = None,
    embedding: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="Label what `learn` learnt instead of the lungs; again for more structures."
        ),
    ] = None,
    zones: Annotated[
        bool,
        typer.Option(
            "--zones",
            help="Thirds of each lung's height instead of lungs: 3-5 right, from above; 6-8 left.",
        ),
    ] = False,
    overlay: Annotated[bool, typer.Option("--overlay", help="Also write a picture to look at.")] = False,
    json: options.Json = False,
    batch: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Files at once.", show_default="1, on a GPU 32"),
    ] = None,
    bench: Annotated[
        bool, typer.Option("--bench", help="Label each input twice and print the second call's times.")
    ] = False,
    bundle: options.Bundle = None,
    device: options.Device = None,
    quiet: options.Quiet = False,
) -> None:
    """Label the lungs on each radiograph's own pixel grid: 0 background, 1 right lung, 2 left lung.

    With --embedding, the structures learnt from examples, with their masks' label values; each pixel gets the
    most probable one.

    Results are called DIR/<stem>.<ext>; a second input of the same stem gets -2, the next -3.
    """
    import torch

    from dino_diffusion.files.inputs import list_inputs, output_names
    from dino_diffusion.segmentation.cut_processes import cut_processes

    if zones and embedding:
        raise ConfigurationError("--zones are thirds of the lungs: leave it out with --embedding.")
    console = Output(quiet, json)
    failed: list[dict[str, str]] = []
    with console.document() as document:
        check_folder(output)
        paths = list_inputs(inputs, results=output)
        learnt = load_embeddings(embedding or [])
        loaded = load_bundle(bundle, device, console)
        for each in learnt:
            each.check(loaded)
        own = frozenset(p.resolve() for p in paths)
        results: list[dict[str, Any]] = []
        files = list(map(File, paths, *zip(*file_names(output_names(paths)), strict=True)))
        at_once = batch or (GPU_BATCH if loaded.device.type == "cuda" else 1)
        threads = 1 if at_once > 1 else torch.get_num_threads()
        with (
            console.progress("Labelling", len(paths)) as advance,
            cut_processes(1 if learnt else min(at_once, len(paths), os.cpu_count() or 1)) as cut,
            # Many threads, each with threads of its own for torch, would only wait for each other.
            ThreadPoolExecutor(at_once, initializer=torch.set_num_threads, initargs=(threads,)) as pool,
        ):
            job = Job(loaded, output, format.value if format else None, overlay, own, cut, zones, learnt)
            for file, first, second in job.labelled(files, at_once, pool, twice=bench):
                if isinstance(first, Exception):
                    failed.append({"input": str(file.path), "error": _told(file.path, first)})
                else:
                    results.append(first | {"bench": _bench(first, second)} if second else first)
                advance(1)
        document |= {"bundle": loaded.id, "device": str(loaded.device), "results": results, "failed": failed}
        if learnt:
            document["embeddings"] = [
                {"file": str(file)} | each.about() for file, each in zip(embedding or [], learnt, strict=True)
            ]
    for result in results:
        console.say(*describe(result))
    if len(paths) > 1 and failed:
        complain(f"{len(failed)} of {len(paths)} files could not be labelled:")
    for entry in failed:
        complain(entry["error"])
    if failed:
        raise typer.Exit(1)


@dataclass(frozen=True)
class File:
    """An input and what its results are called."""

    path: Path
    name: str
    overlay_name: str


@dataclass(frozen=True)
class Job:
    """What is the same for every file of a batch. `inputs`: resolved, none may be overwritten.

    `cut`: outlines lungs. `zones`: thirds of the lungs instead of lungs. `embeddings`: what to label; none
    for the lungs.
    """

    bundle: ModelBundle
    folder: Path
    format: str | None
    overlay: bool
    inputs: frozenset[Path]
    cut: Cut
    zones: bool = False
    embeddings: tuple[SegmentEmbedding, ...] = ()

    def labelled(
        self, files: list[File], at_once: int, pool: ThreadPoolExecutor, twice: bool = False
    ) -> Iterator[tuple[File, Outcome, dict[str, Any] | None]]:
        """Every file with its entry for the JSON document, or what went wrong with it.

        `at_once` files go through the models together, while those after them are read and those before
        them are outlined and written. `twice`: label each again, for its times; the second entry comes too.
        """
        chunks = [files[start : start + at_once] for start in range(0, len(files), at_once)]
        ahead = [pool.submit(self._read, file) for file in chunks[0]] if chunks else []
        before: list[tuple[File, Begun]] = []
        for number, chunk in enumerate(chunks):
            read, ahead = [future.result() for future in ahead], []
            if number + 1 < len(chunks):
                ahead = [pool.submit(self._read, file) for file in chunks[number + 1]]
            if twice:
                first, second = ([_done(one) for one in self._begin(chunk, read, pool)] for _ in range(2))
                for file, entry, again in zip(chunk, first, second, strict=True):
                    yield file, entry, again if isinstance(again, dict) else None
                continue
            begun = self._begin(chunk, read, pool)
            yield from ((file, _done(one), None) for file, one in before)
            before = list(zip(chunk, begun, strict=True))
        yield from ((file, _done(one), None) for file, one in before)

    def _read(self, file: File) -> Read:
        """The radiograph and its view, or why there is none, and the seconds it took."""
        from dino_diffusion.radiograph import Radiograph

        start = time.perf_counter()
        picture: tuple[Radiograph, ModelView] | Exception
        try:
            radiograph = Radiograph.read(file.path)
            picture = radiograph, radiograph.model_view(self.bundle.size)
        except Exception as error:
            picture = error
        return picture, time.perf_counter() - start

    def _begin(self, files: list[File], read: list[Read], pool: ThreadPoolExecutor) -> list[Begun]:
        """Observes what was read; the rest of the work on each goes on in `pool`."""
        from dino_diffusion.segmentation.observation import observe_many

        start = time.perf_counter()
        good = [picture for picture, _ in read if not isinstance(picture, Exception)]
        try:
            seen = iter(observe_many(self.bundle, good) if good else [])
        except Exception as error:
            if len(files) == 1:
                return [error]
            # One odd file must not take the others along.
            return [self._begin([file], [one], pool)[0] for file, one in zip(files, read, strict=True)]
        shared = (time.perf_counter() - start) / max(1, len(good))
        return [
            picture
            if isinstance(picture, Exception)
            else pool.submit(self._finish, file, next(seen), seconds, shared)
            for file, (picture, seconds) in zip(files, read, strict=True)
        ]

    def _finish(self, file: File, observation: Observation, read: float, observed: float) -> Outcome:
        try:
            return self._write(file, observation, read, observed)
        except Exception as error:  # whatever a library makes of an odd file, the others are labelled
            return error

    def _write(self, file: File, observation: Observation, read: float, observed: float) -> dict[str, Any]:
        """Label what was observed and write the results."""
        from dino_diffusion.files.write_labelmap import write_labelmap
        from dino_diffusion.pictures import overlay, save_png
        from dino_diffusion.segmentation.zones import zoned

        radiograph = observation.radiograph
        times = [time.perf_counter()]
        found = self._segmented(observation)
        labelmap = zoned(found.labelmap) if self.zones else found.labelmap
        times.append(time.perf_counter())
        target = self._free(labelmap_path(radiograph.source, self.folder, self.format, file.name))
        picture = self._free(self.folder / f"{file.overlay_name}.png") if self.overlay else None
        target = write_labelmap(labelmap, target, self.format)
        if picture:
            drawn = overlay(radiograph.pixels, labelmap.labels, segments=labelmap.segments)
            save_png(drawn, picture)
        times.append(time.perf_counter())
        segmented, written = (b - a for a, b in itertools.pairwise(times))
        seconds = {"read": read, "segment": observed + segmented, "write": written}
        return {
            "input": str(file.path),
            "labelmap": str(target),
            "overlay": str(picture) if picture else None,
            "shape": list(radiograph.shape),
            "spacing_mm": radiograph.spacing_mm,
            **self._areas(found, labelmap),
            "uncertainty": float(found.uncertainty),
            "warnings": list(found.warnings),
            "seconds": {stage: round(spent, 4) for stage, spent in seconds.items()},
        }

    def _segmented(self, observation: Observation) -> LungSegmentation | LearntSegmentation:
        if not self.embeddings:
            from dino_diffusion.segmentation.lungs import lungs_of

            return lungs_of(self.bundle, observation, self.cut)
        from dino_diffusion.segmentation.learnt import segment_with

        return segment_with(self.bundle, observation, self.embeddings)

    def _areas(self, found: Any, labelmap: Labelmap) -> dict[str, Any]:
        if not self.embeddings:
            areas = {"lungs": lung_areas(found.labelmap)}
            return areas | ({"segments": segment_areas(labelmap)} if self.zones else {})
        return {"segments": segment_areas(found.labelmap), "uncertainties": found.uncertainties}

    def _free(self, target: Path) -> Path:
        if target.resolve() in self.inputs:
            raise RadiographError(
                f"{target}: the result would replace an input of that name; choose another folder with -o."
            )
        return target


def _done(begun: Begun) -> Outcome:
    return begun if isinstance(begun, Exception) else begun.result()


def check_folder(folder: Path) -> None:
    """Fails before the work instead of after it, and makes nothing. Raises RadiographError."""
    nearest = next(place for place in (folder, *folder.absolute().parents) if os.path.exists(place))
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise RadiographError(f"{folder}: cannot be written to; choose a folder that is writable with -o.")


def file_names(names: list[str]) -> list[tuple[str, str]]:
    """Labelmap and overlay name of each input, no overlay called like another input's labelmap."""
    taken = {name.casefold() for name in names}
    pairs = []
    for name in names:
        overlay, number = f"{name}{OVERLAY_ENDING}", 1
        while overlay.casefold() in taken:
            number += 1
            overlay = f"{name}{OVERLAY_ENDING}-{number}"
        taken.add(overlay.casefold())
        pairs.append((name, overlay))
    return pairs


def labelmap_path(source: Source, folder: Path, format: str | None, name: str) -> Path:
    """Where `write_labelmap` is to write."""
    from dino_diffusion.files.write_labelmap import ENDINGS, SAME, default_format

    chosen = format or default_format(source)
    return folder / f"{name}{ENDINGS[SAME.get(source.format, 'png') if chosen == 'same' else chosen]}"


def load_embeddings(files: list[Path]) -> tuple[SegmentEmbedding, ...]:
    """Before the bundle, so that a bad file is told at once. Raises EmbeddingError."""
    if not files:
        return ()
    from dino_diffusion.segmentation.embedding import SegmentEmbedding, check_together

    loaded = tuple(SegmentEmbedding.load(file) for file in files)
    check_together(loaded)
    return loaded


def lung_areas(labelmap: Labelmap) -> dict[str, dict[str, float | None]]:
    """Area of each lung: share of the picture, and cm2 where the pixel spacing is known."""
    from dino_diffusion.codes import LEFT_LUNG, RIGHT_LUNG

    return {side: _area(labelmap, value) for side, value in (("right", RIGHT_LUNG), ("left", LEFT_LUNG))}


def segment_areas(labelmap: Labelmap) -> list[dict[str, Any]]:
    """The same for learnt segments, with label value and name."""
    return [
        {"label": value, "name": name, **_area(labelmap, value)} for value, name in labelmap.names.items()
    ]


def _area(labelmap: Labelmap, value: int) -> dict[str, float | None]:
    spacing = labelmap.radiograph.spacing_mm
    pixels = int((labelmap.labels == value).sum())
    cm2 = pixels * spacing[0] * spacing[1] / 100 if spacing else None
    return {"pixels": pixels, "share": pixels / labelmap.labels.size, "cm2": cm2}


def describe(result: dict[str, Any]) -> list[str]:
    """Lines for a person."""
    regions = {f"{side} lung": area for side, area in result.get("lungs", {}).items()}
    regions |= {f"{area['label']} {area['name']}": area for area in result.get("segments", [])}
    areas = [
        f"{name} " + (f"{area['share']:.1%}" if area["cm2"] is None else f"{area['cm2']:.0f} cm²")
        for name, area in regions.items()
    ]
    unit = "" if result["spacing_mm"] else " of the picture"
    lines = [
        f"{result['input']} -> {result['labelmap']}",
        f"    {', '.join(areas)}{unit}; uncertainty {result['uncertainty']:.2f}",
    ]
    if result["overlay"]:
        lines.append(f"    picture: {result['overlay']}")
    lines += [f"    warning: {warning}" for warning in result["warnings"]]
    if bench := result.get("bench"):
        warm, first = bench["warm"], bench["first"]
        parts = ", ".join(f"{stage} {seconds:.3f} s" for stage, seconds in warm.items())
        lines.append(f"    warm: {parts} (first call: segment {first['segment']:.3f} s)")
    return lines


def _bench(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    return {"first": first["seconds"], "warm": second["seconds"]}


def _told(path: Path, error: Exception) -> str:
    """A sentence; of what no one foresaw, the file's name and the cause."""
    return sentence(error) if isinstance(error, DinoDiffusionError) else _unforeseen(path, error)


def _unforeseen(path: Path, error: Exception) -> str:
    cause = f"{type(error).__name__}: {sentence(error)}"
    return f"{path}: cannot be labelled ({cause}); please report it, with the file."
