//! Tests of the core: golden scripts, one per rule, and random schedules that check the paper's
//! five properties after every step.

mod schedule;
mod script;
mod simulation;
