"""The frames that people bring: folders and .tar files, in several layouts."""
