"""Image: any radiograph of the scene, or the next of the worklist, which is prepared ahead."""

from __future__ import annotations

from ..logic import Arrived
from ..net import client
from ..net.tasks import Pause, Progress, Steps
from .panel import Panel

WAIT_SECONDS = 0.05


class ImagePanel(Panel):
    FILE = "Image"

    def __init__(self, desk) -> None:
        super().__init__(desk)
        self.ahead: Arrived | None = None
        self.preparing = None
        self.on_arrived = lambda volume, arrived: None
        self.prelabel_choice = lambda: ("", False, [])
        self.ui.volumeBox.currentNodeIDChanged.connect(self.volume_chosen)
        self.ui.nextButton.clicked.connect(self.next)
        self.ui.strategyBox.currentTextChanged.connect(self.strategy_chosen)

    def volume_chosen(self, *_: object) -> None:
        self.desk.choose_volume(self.ui.volumeBox.currentNode())

    def strategy_chosen(self, text: str) -> None:
        if text:
            self.desk.parameters.set("strategy", text)

    def next(self, *_: object) -> None:
        """The image that was prepared, or is being, else the next one from the server."""
        if self.ahead is not None:
            ready, self.ahead = self.ahead, None
            self.desk.busy.say(self.open(ready))
            self.desk.refresh()
            return
        self.desk.busy.start(self.desk.logic.start, self.arriving(), "Asking for the next image", self.open)

    def arriving(self) -> Steps:
        """Waits for what is being prepared: the server has given that image to us already."""
        while self.preparing is not None and not self.preparing.reported:
            yield Progress(None, "Preparing the next image")
            yield Pause(WAIT_SECONDS)
        ready, self.ahead = self.ahead, None
        if ready is None:
            ready = yield from self.desk.logic.next_image(self.ui.strategyBox.currentText, "", False, [])
        return ready

    def open(self, arrived: Arrived | None) -> str:
        if arrived is None:
            return "The worklist is done: no image is left to label."
        volume = self.desk.logic.open_image(arrived)
        self.desk.choose_volume(volume)
        self.show_parameters()
        self.on_arrived(volume, arrived)
        self.count()
        self.prepare()
        return f"{arrived.image} is open" + (", with its first labels." if arrived.result else ".")

    def count(self) -> None:
        """Shows how far the worklist is; a server that has none shows nothing."""
        logic = self.desk.logic
        if logic.info is not None and logic.info.own:
            logic.start(client.worklist(), self.counted, lambda error: self.ui.countLabel.setText(""))

    def counted(self, entries: list[dict]) -> None:
        states = [entry.get("status") for entry in entries]
        done = sum(state in ("labelled", "reviewed") for state in states)
        skipped = states.count("skipped")
        words = f"{done} of {len(states)} labelled" + (f", {skipped} skipped" if skipped else "")
        self.ui.countLabel.setText(words + ".")

    def prepare(self) -> None:
        """Fetches and labels the next image while this one is edited; failing at it disturbs nobody."""
        logic = self.desk.logic
        if not self.ui.aheadCheck.checked or not self.desk.connected() or self.ahead is not None:
            return
        if self.preparing is not None and not self.preparing.reported:
            return
        server = logic.server
        steps = logic.next_image(self.ui.strategyBox.currentText, *self.prelabel_choice())

        def ready(arrived: Arrived | None) -> None:
            if arrived is not None and logic.server == server:
                self.ahead = arrived
            self.show_state()

        self.preparing = logic.start(steps, ready, lambda error: self.show_state())
        self.show_state()

    def forget(self) -> None:
        """Drops what was prepared: on another server it means nothing."""
        self.ahead = None
        if self.preparing is not None:
            self.preparing.cancel()
            self.preparing = None

    def show_parameters(self) -> None:
        self.ui.volumeBox.blockSignals(True)
        self.ui.volumeBox.setCurrentNode(self.desk.volume)
        self.ui.volumeBox.blockSignals(False)

    def show_state(self) -> None:
        info = self.desk.logic.info
        strategies = info.strategies if info else []
        if [self.ui.strategyBox.itemText(i) for i in range(self.ui.strategyBox.count)] != strategies:
            wanted = self.desk.parameters.get("strategy")
            self.ui.strategyBox.clear()
            self.ui.strategyBox.addItems(strategies)
            if wanted in strategies:
                self.ui.strategyBox.setCurrentText(wanted)
        self.ui.nextButton.setEnabled(bool(strategies) and not self.desk.busy.running)
        if self.ahead is not None:
            self.ui.aheadLabel.setText(f"{self.ahead.image} is ready.")
        elif self.preparing is not None and not self.preparing.reported:
            self.ui.aheadLabel.setText("Preparing the next image …")
        else:
            self.ui.aheadLabel.setText("")
