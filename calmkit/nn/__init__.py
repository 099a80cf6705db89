"""Networks with at least two users each."""
