"""Convolutions as a CPU computes them fastest; other devices use XLA's own."""
