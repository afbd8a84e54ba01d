//! The room `broker`.
