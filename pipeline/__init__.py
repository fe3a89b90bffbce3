"""hushword's streaming job: Beam, Kafka and the command line around `matcher`."""
