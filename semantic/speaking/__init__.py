"""A trained voice for units: pulses and noise shaped by units, in whatever voice was heard."""
