"""The parts of the DiNO-Diffusion extension.

`net` talks to the server and knows neither Qt nor MRML, `codec` turns arrays into image files in memory and
back,
`scene` is all that touches MRML, `panels` all that touches Qt. Nothing here is imported before it is used.
"""
