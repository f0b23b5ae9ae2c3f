"""The former name of `unit_measures`."""
