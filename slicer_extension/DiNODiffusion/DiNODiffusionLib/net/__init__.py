"""HTTP without threads: requests advance at every tick of a timer and never block the window."""
