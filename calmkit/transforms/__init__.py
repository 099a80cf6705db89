"""Transforms: one file, one part; and the chain of them that a model holds."""
