"""One file a group of routes: MONAI Label's own contract, and what it lacks."""
