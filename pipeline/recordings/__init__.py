"""Recordings: labelled or real traffic in a folder, taken from a topic and played back onto one.

`recording` is the folder, `record` and `replay` what is done with it, each with its command; `departures` says which
chunk leaves when, and `standing` where a replay stands.
"""
