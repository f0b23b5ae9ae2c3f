"""K-means with exact search, for features of any size."""

from .config import KMeansConfig
from .estimator import KMeans
from .features import Features, open_features
from .fitting import Progress
from .foreign import load_centroids

__all__ = ["Features", "KMeans", "KMeansConfig", "Progress", "load_centroids", "open_features"]
