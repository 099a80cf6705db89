"""Backbones: one file, one part."""
