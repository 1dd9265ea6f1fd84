//! The sidecar's parts, together and from outside.

mod agones;
mod agones_faults;
mod agones_rest;
mod agones_site;
