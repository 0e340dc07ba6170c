"""Two small forums that publish their events: over HTTP, and straight to Kafka. Written to be copied."""
