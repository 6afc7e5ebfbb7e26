"""What is stored of a frame, and the files that it is stored in."""
