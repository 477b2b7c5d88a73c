"""The formats of datasets, each read into a catalog."""
