"""K-means on the exact search: features of any size to centroids."""

from .config import KMeansConfig
from .estimator import KMeans
from .features import Features, open_features
from .fitting import Progress
from .foreign import load_centroids

__all__ = ["Features", "KMeans", "KMeansConfig", "Progress", "load_centroids", "open_features"]
