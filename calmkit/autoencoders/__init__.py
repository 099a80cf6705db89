"""Autoencoders: one file, one part."""
