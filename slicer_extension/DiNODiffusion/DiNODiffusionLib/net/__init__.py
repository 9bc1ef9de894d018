"""HTTP without threads: requests that advance a little at every tick of a timer and never block the
window."""
