"""Reading and writing radiographs and labelmaps, one file a format.

This package itself imports nothing: `grid` and `grey` need numpy only, the readers and writers pull
pillow, SimpleITK, nibabel, pydicom or highdicom when they are imported.
"""
