"""jaxseg"""
