"""Benchmarks: speed beside PyTorch, and tables of small training runs."""
