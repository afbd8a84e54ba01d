//! The room `commitlog`.
