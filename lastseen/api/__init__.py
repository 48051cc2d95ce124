"""What goes over the wire between the service and its clients, declared once: requests, responses, problems, facts.

The service's OpenAPI and AsyncAPI descriptions are made from these classes, and the clients decode responses with them.
Nothing here needs the libraries of the HTTP server.
"""
