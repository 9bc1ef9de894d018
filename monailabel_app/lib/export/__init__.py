"""Submitted labels as folders that training programs read."""
