"""Images: corpora, rows and batches, grids."""

"""Images: a kind of data, in a room of its own."""
