"""Image files in memory: arrays `(slices, rows, columns)` with their IJK-to-RAS matrix, to bytes and back."""
