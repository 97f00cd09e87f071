"""Training an instruction editor on pairs of pictures (`showtell train instruct`)."""
