"""From trained weights to a bundle: ONNX graphs, precision, ensembles."""
