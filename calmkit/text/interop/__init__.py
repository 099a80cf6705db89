"""Other people's files: checkpoints of the official CALM code, read and written."""
