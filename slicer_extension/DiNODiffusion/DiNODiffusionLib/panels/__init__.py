"""The sections of the module's panel, one class and one .ui file each."""
