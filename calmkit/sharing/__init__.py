"""Trained models handed on: a folder that stands alone, its card, and the way to a hub and back."""
