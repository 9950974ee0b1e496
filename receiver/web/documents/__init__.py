"""The OpenAPI and AsyncAPI documents, and an HTML page of both."""
