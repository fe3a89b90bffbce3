"""`hushword evaluate`: decisions, wherever they are from, held against a recording's truth.

`command` is the command and `evaluation` its second half; `score` is the score itself (pure), `against` holds two runs
side by side, `sweep` and `near` tell what other budgets would have come to, `media` asks with recordings that are known
before, `offline` makes decisions without Kafka and Beam, `report` is the page. Importing this package costs nothing.
"""
