"""Where the processes of a study run: here, or on a cluster."""
