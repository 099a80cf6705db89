"""Conditioners: what stands before the first unit of a row."""
