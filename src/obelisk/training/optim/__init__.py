"""The training loop and what it needs: trainer, optimizer, checkpoint, logs."""
