//! The pure coordinator: stories of single ids, and random ones with leaders, clients and a log around it.

mod random;
mod story;
mod world;
