"""Trainings that run by one command and leave pictures."""
