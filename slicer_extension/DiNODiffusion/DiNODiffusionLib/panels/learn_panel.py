"""Learn this segment: from one corrected example, found again in the next images."""

from __future__ import annotations

from ..net import client
from ..scene import segments
from .panel import Panel


class LearnPanel(Panel):
    FILE = "Learn"

    def __init__(self, desk) -> None:
        super().__init__(desk)
        self.ui.learnButton.clicked.connect(lambda *_: self.learn())
        self.ui.absentButton.clicked.connect(lambda *_: self.learn(absent=True))
        self.ui.activateButton.clicked.connect(self.activate)
        self.ui.learntBox.currentTextChanged.connect(self.show_versions)

    def learn(self, absent: bool = False) -> None:
        """From the selected segment as it is drawn, or from there being none."""
        logic, desk = self.desk.logic, self.desk
        segmentation = desk.segmentation
        steps = logic.learn(
            desk.volume_id,
            segmentation.GetID() if segmentation else "",
            desk.segment_id,
            self.ui.nameEdit.text.strip(),
            absent,
        )
        desk.busy.start(logic.start, steps, "Learning", self.learnt)

    def learnt(self, params: dict) -> str:
        name = str(params["name"])
        if params.get("activated"):
            chosen = self.desk.parameters.get("embeddings")
            self.desk.parameters.set("embeddings", sorted({*chosen, name}))
        self.ui.nameEdit.clear()
        dice = params.get("dice")
        measured = f" Dice {dice:.2f} on labels kept back." if isinstance(dice, float) else ""
        warnings = " ".join(str(warning) for warning in params.get("warnings") or [])
        version = params.get("version", "?")
        said = f"Learnt, version {version}.{measured} The next images are labelled with it."
        return f"{said} {warnings}".strip()

    def activate(self, *_: object) -> None:
        """Uses another version from now on, an older one too."""
        name, version = self.ui.learntBox.currentText, self.ui.versionBox.currentText

        def steps():
            yield from client.activate(name, int(version) if version.isdigit() else version)
            yield from self.desk.logic.refresh()

        self.desk.busy.start(
            self.desk.logic.start,
            steps(),
            "Changing the version",
            lambda _: f"{name}: version {version} is used now.",
        )

    def show_versions(self, *_: object) -> None:
        info = self.desk.logic.info
        name = self.ui.learntBox.currentText
        self.ui.versionBox.clear()
        for entry in info.embeddings if info else []:
            if entry.get("name") == name:
                self.ui.versionBox.addItems(
                    [version_text(version) for version in entry.get("versions") or []]
                )
                self.ui.versionBox.setCurrentText(str(entry.get("active")))

    def show_state(self) -> None:
        info, desk = self.desk.logic.info, self.desk
        names = [str(entry.get("name")) for entry in info.embeddings] if info else []
        if [self.ui.learntBox.itemText(i) for i in range(self.ui.learntBox.count)] != names:
            self.ui.learntBox.clear()
            self.ui.learntBox.addItems(names)
        self.show_versions()
        segment = desk.segment_id
        name = segments.name_of(desk.segmentation, segment) if segment else ""
        self.ui.segmentLabel.setText(name or "(select a segment in the editor below)")
        self.ui.nameEdit.setPlaceholderText(name)
        free = bool(info and info.own) and not desk.busy.running
        for button in (self.ui.learnButton, self.ui.absentButton):
            button.setEnabled(free and bool(segment))
        self.ui.activateButton.setEnabled(free and bool(names))


def version_text(version: object) -> str:
    return str(version.get("version", "?")) if isinstance(version, dict) else str(version)
