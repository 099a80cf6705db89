"""Images: corpora, rows and batches, grids."""
