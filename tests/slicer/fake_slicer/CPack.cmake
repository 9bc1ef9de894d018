# Packing needs nothing here.
