"""Samplers: one file, one part."""
