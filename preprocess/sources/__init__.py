"""Frames as people bring them: folders and .tar files, in several layouts."""
