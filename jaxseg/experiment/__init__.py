"""Experiments: what a run is, built from its config and kept in its workdir."""
