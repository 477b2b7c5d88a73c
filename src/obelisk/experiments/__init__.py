"""What needs training and recognition together."""
