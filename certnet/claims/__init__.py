"""What is said: a claim, the bound, and the certificate that carries both to a file."""
