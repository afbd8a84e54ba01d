//! The room `world`.
