"""Training: the starters from nothing (`showtell train starter`)."""
