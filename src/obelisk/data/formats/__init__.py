"""The layouts that datasets come in, each read into a catalog."""
