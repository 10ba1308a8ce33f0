"""Inference: trained generators to enlarged pictures."""
