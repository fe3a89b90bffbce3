"""Kafka as every part of the project meets it.

`clients` says how brokers are reached, `consumer` and `producer` mend what the library leaves open, `sender` publishes
and loses nothing, `topics` makes the topics and checks them, `broker_faults` says in a sentence why brokers cannot be
used.
"""
