"""Where a trained part comes from: its run's settings, code, length and data, without any machine's paths."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from dino_diffusion.errors import ConfigurationError
from dino_diffusion.training.corpus import CorpusItem, load_corpus

PROVENANCE = "provenance.json"
"""A bundle's note of where its parts come from."""

CONTINUED = "continued.json"
"""A run's note of the part that it started from (`--init`)."""


def note_start(run: Path, bundle: Path, part: str) -> None:
    """Keeps with a run what is known of the part that it goes on from, so that its hours add up."""
    run.mkdir(parents=True, exist_ok=True)
    (run / CONTINUED).write_text(json.dumps(provenance_of(bundle / part), indent=1) + "\n")


def provenance_of(weights: Path) -> dict[str, Any]:
    """What is known of the run that `weights` lies in; every entry is null where the run did not say.

    `settings` (paths cut to their last name), `git`, `torch`, `device`, `seed`, `steps`, `seconds`, `data`:
    the training images by source with their licences, where the list is still to be read here; and
    `continues`: the same of the run that this one started from. A bundle's part has what the bundle notes of
    it.
    """
    if noted := _json(weights.parent / PROVENANCE).get("parts"):
        return noted.get(weights.name, {})
    about, settings, last = _json(weights.parent / "run.json"), settings_of(weights), _last_line(weights)
    return {
        "settings": without_paths(settings) or None,
        "git": about.get("git"),
        "torch": about.get("torch"),
        "device": about.get("device"),
        "seed": settings.get("run", {}).get("seed"),
        "steps": last.get("step"),
        "seconds": last.get("seconds"),
        "data": sources_of(settings.get("data", {})),
        "continues": _json(weights.parent / CONTINUED) or None,
    }


def settings_of(weights: Path) -> dict[str, Any]:
    """The settings that the run around `weights` noted, empty if it noted none."""
    return _json(weights.parent / "run.json").get("settings", {})


def without_paths(value: Any) -> Any:
    """Texts that hold a path, cut to the last name of it; nested values alike."""
    if isinstance(value, dict):
        return {name: without_paths(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [without_paths(entry) for entry in value]
    if isinstance(value, str) and ("/" in value or "\\" in value):
        parts = [part for part in value.replace("\\", "/").split("/") if part]
        # Every run's weights lie in a folder of this name, which alone would say nothing.
        return "/".join(parts[-2:]) if parts[-1:] == ["weights"] else (parts or [""])[-1]
    return value


def corpus_of(data: dict[str, Any]) -> list[CorpusItem]:
    """The images that a run's `data` settings name, in its order.

    Raises ConfigurationError or OSError where they are not here.
    """
    return load_corpus(
        data.get("path", ""), data.get("splits", ()), data.get("sources", ()), data.get("limit")
    )


def sources_of(data: dict[str, Any]) -> dict[str, Any] | None:
    """Images and licences by source of what a run's `data` settings name; None if that is not here."""
    try:
        items = corpus_of(data)
    except (ConfigurationError, OSError):
        return None
    licences: dict[str, set[str]] = {}
    for item in items:
        licences.setdefault(item.source, set()).update(filter(None, [item.licence]))
    counts = Counter(item.source for item in items)
    most = data.get("most_prepared") or len(items)
    return {
        source: {"images": min(count, most), "licences": sorted(licences[source])}
        for source, count in sorted(counts.items())
    }


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.is_file() else {}


def _last_line(weights: Path) -> dict[str, Any]:
    path = weights.parent / "log.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    return json.loads(lines[-1]) if lines else {}
