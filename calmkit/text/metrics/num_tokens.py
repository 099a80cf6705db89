"""How many tokens BrierLM looks at: Shao et al., 2025, Eq. 15. https://arxiv.org/abs/2510.27688"""

NUM_TOKENS = 4
"""Brier-1 to Brier-4."""
