"""Units: the nearest of K centroids for every frame of an encoder's features."""
