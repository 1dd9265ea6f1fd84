//! The matchmaker's contract, sentence by sentence, as examples in virtual time.

mod backfill;
mod bounds;
mod entities;
mod explain;
mod fairness;
mod genres;
mod hooks;
mod limits;
mod matches;
mod properties;
mod queues;
mod reconfigured;
mod rules;
mod table;
mod tickets;
