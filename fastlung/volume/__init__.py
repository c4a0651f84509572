"""Pure functions on a volume and its grid: units, samples, resampling, orientation, crops."""
