"""Orders: which units are known when a unit is predicted, and which are drawn next."""
