"""jaxseg: semantic segmentation for JAX."""
