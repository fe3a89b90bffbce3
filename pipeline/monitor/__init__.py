"""`hushword monitor`: a page that shows what the job hears and decides, while it does.

`follower` reads the topics, `watch` asks whether the broker answers and how far the job is, `model` keeps a bounded
picture of it (its parts are in `parts`), `why` works out the evidence of one event, `app` serves page, news and
metrics, `access` decides who may see them, `server` runs it all, `command` is the command, and `static/` is the page.
Importing this package costs nothing.
"""
