"""Scores of speech from text."""
