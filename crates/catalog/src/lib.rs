//! The room `catalog`.
