"""Evaluation: how good a trained model is, and where it fails."""
