"""Measures of images that run offline: distances in features of our own network, each beside its floor and bars."""
