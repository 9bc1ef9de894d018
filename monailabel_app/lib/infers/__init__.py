"""The infer tasks. Each takes the documented config values, `image` and, for masks, `label`."""
