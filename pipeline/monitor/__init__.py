"""`hushword monitor`: a page that shows what the job hears and decides, while it does.

`follower` reads the topics, `watch` asks whether the broker answers and how far the job is, `model` keeps a bounded
picture of it, `why` works out the evidence of one event, `app` serves page, stream and metrics, `access` decides who
may see them, `server` runs it all, and `static/` is the page. Importing this package costs nothing.
"""
