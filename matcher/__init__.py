"""hushword's algorithm: fingerprints, matching and deciding. No Beam, no Kafka, no clock, no I/O."""
