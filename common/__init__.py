"""What every package may use: errors, files, display, command lines; no configuration."""
