"""Speed: what an answer takes, stage by stage, and the same work done by hand."""
