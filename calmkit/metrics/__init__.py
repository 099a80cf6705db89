"""Measures: torchmetrics over pure functions of tensors."""
