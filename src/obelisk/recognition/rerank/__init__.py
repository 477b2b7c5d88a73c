"""What reorders the neighbours of a query before they vote."""
