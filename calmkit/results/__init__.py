"""What the results of studies say, in plain numbers: written by studies, read by reports."""
