"""Experiments: building a run from its config, and its files in the workdir."""
