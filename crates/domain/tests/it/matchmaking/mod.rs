//! The matchmaker's contract, sentence by sentence, as examples in virtual time.

mod backfill;
mod bounds;
mod budgets;
mod deadlines;
mod entities;
mod explain;
mod fairness;
mod former;
mod genres;
mod hooks;
mod hostile;
mod keepalive;
mod limits;
mod matches;
mod numbers;
mod placement;
mod promises;
mod properties;
mod queues;
mod rated;
mod reconfigured;
mod replacing;
mod rules;
mod several;
mod table;
mod tickets;
