"""Finished runs side by side: rows over seeds, their differences, tables and pictures."""
