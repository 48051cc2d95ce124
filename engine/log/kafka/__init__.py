"""The log on Apache Kafka, through kafka-python."""

CLIENT_ID = "lastseen"
"""What clients of ours call themselves; some add an address. Their threads bear it in their names."""
SUPPORTED_LIBRARY = "kafka-python>=3.0.11,<3.1"
"""The versions whose private parts are known to be as this package expects (`library_internals`)."""
