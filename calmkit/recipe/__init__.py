"""Recipes: one YAML file says all that a run is made of, and is refused whole before data is touched."""
