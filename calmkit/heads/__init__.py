"""Heads: one file, one part."""
