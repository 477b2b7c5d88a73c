"""The search index of large galleries: it proposes candidates, which are then ranked exactly."""
