"""Submit label and next image; skip with a reason; hand in what waits on this machine."""

from __future__ import annotations

from ..logic import Submitted
from ..net import client
from ..scene import volumes
from .panel import Panel

REASONS = ("poor quality", "not a frontal chest radiograph", "cut off", "cannot be judged")


class SubmitPanel(Panel):
    FILE = "Submit"

    def __init__(self, desk) -> None:
        super().__init__(desk)
        self.next_image = lambda: None
        self.ui.reasonBox.addItems(list(REASONS))
        self.ui.submitButton.clicked.connect(self.submit)
        self.ui.skipButton.clicked.connect(self.skip)
        self.ui.waitingButton.clicked.connect(self.hand_in)

    def submit(self, *_: object) -> None:
        desk = self.desk
        if not self.ui.submitButton.enabled:
            return
        if not desk.connected():
            try:
                desk.busy.say(
                    self.submitted(desk.logic.save_locally(desk.volume_id, desk.segmentation.GetID()))
                )
            except Exception as error:
                desk.busy.failed(error)
            desk.refresh()
            return
        steps = desk.logic.submit(desk.volume_id, desk.segmentation.GetID())
        desk.busy.start(desk.logic.start, steps, "Handing in the labels", self.submitted_and_next)

    def submitted_and_next(self, done: Submitted) -> str:
        said = self.submitted(done)
        if not done.waiting and self.ui.nextCheck.checked:
            self.next_image()
            said = f"{said} {self.desk.busy.status.text}"
        return said

    def submitted(self, done: Submitted) -> str:
        if done.waiting:
            return "The server is not there: the labels are saved on this machine; hand them in later."
        layers = f" in {done.layers} layers, because segments overlap" if done.layers > 1 else ""
        return f"The labels of {done.image} are on the server{layers}."

    def skip(self, *_: object) -> None:
        desk = self.desk
        if not self.ui.skipButton.enabled:
            return
        image = volumes.server_image(desk.volume, desk.logic.server) if desk.volume else ""
        if not image:
            desk.busy.say("This image is not from the worklist, so there is nothing to skip.")
            return
        steps = client.skip(image, self.ui.reasonBox.currentText.strip())
        desk.busy.start(desk.logic.start, steps, "Skipping", lambda _: self.skipped(image))

    def skipped(self, image: str) -> str:
        self.next_image()
        return f"{image} was skipped. {self.desk.busy.status.text}"

    def hand_in(self, *_: object) -> None:
        logic = self.desk.logic
        self.desk.busy.start(
            logic.start,
            logic.hand_in_waiting(),
            "Handing in what was saved",
            lambda count: f"{count} saved labels are on the server now.",
        )

    def show_state(self) -> None:
        desk = self.desk
        free = not desk.busy.running
        self.ui.submitButton.setEnabled(free and desk.segmentation is not None)
        self.ui.skipButton.setEnabled(free and desk.connected() and desk.volume is not None)
        waiting = len(desk.logic.outbox.waiting(desk.logic.server)) if desk.connected() else 0
        self.ui.waitingButton.setText(f"Hand in {waiting} saved labels")
        self.ui.waitingButton.setVisible(bool(waiting))
        self.ui.waitingButton.setEnabled(free)
