"""Labelled recordings of simulated homes: who speaks, what the television says, rooms, noise, microphones.

`scene` plans who hears what and when, `render` makes it sound, `command` is `hushword simulate`. Importing this package
costs nothing; pyroomacoustics (the extra `[simulate]`) is imported when the first room is rendered.
"""
