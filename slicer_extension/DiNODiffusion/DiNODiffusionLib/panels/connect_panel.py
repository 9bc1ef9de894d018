"""Connect: address, token or token file, test."""

from __future__ import annotations

import qt

from .. import preferences
from ..net.address import Address
from ..net.client import ServerInfo
from ..net.errors import ServerError
from .panel import Panel

EXPOSED = (
    " Beware: this connection is not encrypted, so images and token can be read on the way; https:// is"
    " safer."
)


class ConnectPanel(Panel):
    FILE = "Connect"

    def __init__(self, desk) -> None:
        super().__init__(desk)
        self.on_connected = lambda: None
        self.ui.addressBox.addItems(preferences.addresses())
        self.ui.certificateEdit.setText(preferences.certificate())
        self.ui.connectButton.clicked.connect(self.connect)
        self.ui.tokenEdit.returnPressed.connect(self.connect)
        self.ui.tokenFileButton.clicked.connect(self.choose_token_file)
        self.ui.certificateButton.clicked.connect(self.choose_certificate)

    def connect(self, *_: object) -> None:
        """Asks the server what it is; only when it answers well is it the connected one."""
        logic = self.desk.logic
        try:
            token = self.ui.tokenEdit.text.strip()
            if token.startswith(("/", "~", "file:")) or token[1:3] == ":\\":
                token = preferences.read_token_file(token.replace("file://", "", 1))
            task = logic.connect(self.ui.addressBox.currentText, token, self.ui.certificateEdit.text.strip())
        except ServerError as error:
            self.desk.busy.failed(error)
            return
        self.desk.busy.run(task, logic.pump.start, "Asking the server what it is", self.connected)

    def connected(self, info: ServerInfo) -> str:
        address = self.desk.logic.server
        self.on_connected()
        preferences.remember(address)
        preferences.remember_certificate(self.ui.certificateEdit.text.strip())
        self.ui.addressBox.clear()
        self.ui.addressBox.addItems(preferences.addresses())
        self.ui.infoLabel.setText(description(info))
        return f"Connected to {address}." + (EXPOSED if Address.parse(address).exposed else "")

    def choose_token_file(self, *_: object) -> None:
        folder = str(preferences.state_folder())
        path = qt.QFileDialog.getOpenFileName(self.widget, "Token file of the server", folder)
        self.use_token_file(path[0] if isinstance(path, tuple) else path)

    def use_token_file(self, path: str) -> None:
        """The token goes from the file into the hidden field and nowhere else."""
        if not path:
            return
        try:
            self.ui.tokenEdit.setText(preferences.read_token_file(path))
        except ServerError as error:
            self.desk.busy.failed(error)

    def choose_certificate(self, *_: object) -> None:
        path = qt.QFileDialog.getOpenFileName(self.widget, "Certificate of your authority (PEM)")
        path = path[0] if isinstance(path, tuple) else path
        if path:
            self.ui.certificateEdit.setText(path)

    def show_state(self) -> None:
        self.ui.connectButton.setEnabled(not self.desk.busy.running)
        if not self.desk.connected():
            self.ui.infoLabel.setText(
                "Not connected. Nothing is sent before you press a button that says so."
            )


def description(info: ServerInfo) -> str:
    """What the server is and can, in plain words."""
    can = []
    if info.has("lungs"):
        can.append("label lungs and zones")
    if info.has("regions"):
        can.append("find regions")
    if info.has("inpaint"):
        can.append("paint variants")
    others = [
        name
        for name in info.models
        if name not in ("lungs", "regions", "inpaint", "variant", "twin", "strip")
    ]
    words = f"{info.name}" + (f" on {info.device}" if info.device else "") + "."
    if can:
        words += f" It can {', '.join(can)}."
    if others:
        words += f" Further models: {', '.join(sorted(others))}."
    if not info.own:
        words += " A stock MONAI Label server: it labels, but shows no progress and generates nothing."
    return words
