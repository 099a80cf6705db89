"""Embedders: one file, one part."""
