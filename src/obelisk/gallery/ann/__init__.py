"""The index of large galleries: approximate candidates, ranked again exactly."""
