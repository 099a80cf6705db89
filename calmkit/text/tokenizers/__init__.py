"""Tokenizers: one file, one part."""
