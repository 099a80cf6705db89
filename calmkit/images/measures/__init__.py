"""Measures of images that run offline, in features of our own network, beside floor and bars."""
