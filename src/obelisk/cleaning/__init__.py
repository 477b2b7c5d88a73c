"""Label errors: find them, list them, drop them."""
