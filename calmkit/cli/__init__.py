"""The command line: verbs of a few lines each. What is heavy is imported inside a verb: help is quick."""
