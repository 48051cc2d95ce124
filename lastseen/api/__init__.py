"""What the service and its clients exchange: models, queries, positions, problems."""
