"""From photos to batches: samplers, loader, augmentation, cached features."""
