"""Corpora: one file, one part."""
