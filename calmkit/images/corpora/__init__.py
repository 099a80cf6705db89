"""Corpora of images: one file, one part."""
