//! The binary as a user meets it: exit codes, what it prints and where, start and stop.
#![allow(clippy::disallowed_methods)]

mod broker;
mod config;
mod scripts;
mod security;
mod serve;
mod verbs;
