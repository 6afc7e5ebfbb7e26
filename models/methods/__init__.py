"""One file per method; models/__init__.py has them by name."""
