"""Maths between noise and data, without networks."""
