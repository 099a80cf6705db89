"""Measures of text."""
