//! Tests of liveness: golden scripts, and random schedules that check its one promise at every
//! step: whoever is relied on keeps to it.

mod schedule;
mod script;
mod simulation;
