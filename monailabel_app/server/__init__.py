"""The server around MONAI Label: closed by default, never blocked, nothing lost. `command` starts it."""
