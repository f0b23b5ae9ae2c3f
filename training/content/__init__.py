"""Training of the content encoder: masked prediction of units that earlier features gave."""
