//! Stories about share partitions, told to the pure core: no log, no clock, no task.

mod random;
mod story;
