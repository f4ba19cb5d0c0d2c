"""The documentation, and in `docs.make` what turns it into a site."""
