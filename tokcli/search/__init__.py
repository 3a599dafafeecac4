"""Exact nearest neighbours: codes for a latent, k-means centres for a sample, queue members for a VP-VAE step."""

from tokcli.search.codes import CodeIndex, Neighbours, nearest_code
from tokcli.search.live import LiveIndex, build_live_index

__all__ = ["CodeIndex", "LiveIndex", "Neighbours", "build_live_index", "nearest_code"]
