"""Objectives: what stage 2 makes smaller."""
