"""What is minimised: convex programs as data, and the floor under all of them."""
