"""The train tasks."""
