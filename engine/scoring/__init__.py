"""Evaluation of a split and its reports."""
