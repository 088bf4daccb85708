"""Sweeps: train one bundle many ways under one budget, and hold the results against each other.

Submodules are imported where they are used: planning a sweep is quick, training is not.
"""
