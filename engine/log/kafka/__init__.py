"""A log on Apache Kafka: the only code that imports `kafka`."""
