"""The web page and the HTTP API: `pictell serve RUN [RUN2 ...]`."""
