"""Training: Lightning lives here, and in data/datamodule.py, and nowhere else."""
