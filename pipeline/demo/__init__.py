"""`hushword demo`: a simulated street, a real Kafka, the real job, and what happens as it happens.

`command` is the command, `run` its course, `street` what is going on in the homes at a time (pure), `picture` and
`lines` two ways to show it, `show` the thread that keeps it current, `closing` the end, and `lifetime` sees to it that
nothing is left behind. Importing this package costs nothing.
"""
