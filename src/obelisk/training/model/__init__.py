"""The networks: backbones, pooling, whitening, necks."""
