"""Language-model data."""
