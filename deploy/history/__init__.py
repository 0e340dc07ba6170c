"""History in: dumps and files of events become backfill events, and go to Kafka in a way that can be resumed."""
