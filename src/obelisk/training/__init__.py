"""Learning embeddings: frozen backbones, necks and losses on cached descriptors, export. The only room with torch."""
