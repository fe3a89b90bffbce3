"""`hushword run` that logs all that its own code, Beam and the libraries have to say; kafka-python stays as it is.

At its lowest level kafka-python prints whole requests and answers: that is the wire, not the log.
"""

import logging

from pipeline import logs
from pipeline.cli import main

configure = logs.configure_logs


def configure_loudly(log_format: logs.LogFormat) -> None:
    configure(log_format)
    logging.getLogger().setLevel(logging.DEBUG)
    logging.getLogger("pipeline").setLevel(logging.DEBUG)


if __name__ == "__main__":
    logs.configure_logs = configure_loudly
    main()
