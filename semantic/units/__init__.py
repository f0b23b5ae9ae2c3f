"""Units: for every frame of an encoder's features, the nearest of K centroids."""
