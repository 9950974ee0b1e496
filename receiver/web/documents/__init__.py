"""What the service says about itself: the OpenAPI and AsyncAPI documents, and a page of both."""
