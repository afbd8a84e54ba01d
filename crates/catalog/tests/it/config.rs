//! What Kafka answers about configs, and what Ottla does.
